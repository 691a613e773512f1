//! Names of models: catalogue entries and `hf:OWNER/REPO[:QUANT|:FILE]`.

use super::HubError;
use super::catalogue::{self, Entry};

/// What a user may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// An entry of the catalogue.
    Entry(&'static Entry),
    /// A repository on the model hub.
    Hub {
        /// `OWNER/REPO`.
        repo: String,
        /// A file's name, a quantization, or whatever suits best.
        want: Want,
    },
}

/// Which file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// This file.
    File(String),
    /// The one file of this quantization.
    Quant(String),
    /// The usual one.
    Best,
}

impl Name {
    /// Reads a name.
    ///
    /// # Errors
    /// [`HubError::Unknown`] with near misses; [`HubError::BadName`] for malformed `hf:` names.
    pub fn parse(text: &str) -> Result<Name, HubError> {
        let Some(rest) = text.strip_prefix("hf:") else {
            return catalogue::find(text).map(Name::Entry).ok_or_else(|| HubError::Unknown {
                name: text.to_string(),
                suggestions: catalogue::suggestions(text),
            });
        };
        let bad = |why: &str| HubError::BadName { name: text.to_string(), why: why.to_string() };
        let (repo, want) = rest.split_once(':').map_or((rest, None), |(r, w)| (r, Some(w)));
        let Some((owner, name)) = repo.split_once('/') else {
            return Err(bad("expected hf:OWNER/REPO, hf:OWNER/REPO:QUANT or hf:OWNER/REPO:FILE"));
        };
        if !is_plain(owner) || !is_plain(name) {
            return Err(bad(
                "owner and repository have letters, digits, `-`, `_` and `.` only, and no leading dot",
            ));
        }
        let want = match want {
            None => Want::Best,
            Some("") => return Err(bad("nothing follows the last colon")),
            Some(file) if file.to_ascii_lowercase().ends_with(".gguf") => {
                check_path(file)?;
                Want::File(file.to_string())
            }
            Some(quant) if is_plain(quant) => Want::Quant(quant.to_string()),
            Some(_) => {
                return Err(bad("a quantization is a word such as Q4_K_M, a file ends with .gguf"));
            }
        };
        Ok(Name::Hub { repo: repo.to_string(), want })
    }

    /// The folder's name in the cache.
    pub(super) fn slug(&self) -> String {
        match self {
            Name::Entry(e) => e.name.replace(':', "-"),
            Name::Hub { repo, .. } => format!("hf-{}", repo.replace('/', "--")),
        }
    }

    /// The name as it is shown and kept.
    pub(super) fn text(&self) -> String {
        match self {
            Name::Entry(e) => e.name.to_string(),
            Name::Hub { repo, want: Want::Best } => format!("hf:{repo}"),
            Name::Hub { repo, want: Want::File(w) | Want::Quant(w) } => format!("hf:{repo}:{w}"),
        }
    }
}

/// A word that is safe in a path and in an address.
fn is_plain(s: &str) -> bool {
    !s.is_empty()
        && s.len() <= 128
        && !s.starts_with('.')
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Checks a file's path within a repository, which a hostile hub may have chosen.
///
/// # Errors
/// [`HubError::BadName`] for whatever could leave the folder or trick a file system.
pub(super) fn check_path(path: &str) -> Result<(), HubError> {
    let fine = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.len() <= 200
            && !part.chars().any(|c| c.is_control() || "\\:*?\"<>|".contains(c))
    };
    if path.len() <= 400 && path.split('/').all(fine) {
        return Ok(());
    }
    let name = path.chars().take(200).collect();
    Err(HubError::BadName { name, why: "it is not a plain relative path".into() })
}

/// Quantizations by how well they serve as a default.
const PREFERRED: [&str; 8] =
    ["Q4_K_M", "Q4_0", "Q5_K_M", "MXFP4", "Q8_0", "Q6_K", "Q4_1", "Q3_K_M"];

/// Chooses a file among a repository's.
///
/// # Errors
/// [`HubError::Repository`] where none or several fit, or where the model is split.
pub(super) fn choose<'a>(
    repo: &str,
    files: &'a [String],
    want: &Want,
) -> Result<&'a str, HubError> {
    let fail = |why: String| HubError::Repository { repo: repo.to_string(), why };
    let models: Vec<&str> = files
        .iter()
        .map(String::as_str)
        .filter(|f| {
            f.to_ascii_lowercase().ends_with(".gguf")
                && !base(f).to_ascii_lowercase().starts_with("mmproj")
        })
        .collect();
    let listed = || {
        let some: Vec<&str> = models.iter().take(24).copied().collect();
        if some.is_empty() {
            "it has no GGUF files".into()
        } else {
            format!("it has {}", some.join(", "))
        }
    };
    let found: Vec<&str> = match want {
        Want::File(name) => models.iter().copied().filter(|f| f == name).collect(),
        Want::Quant(quant) => of_quant(&models, quant),
        Want::Best if models.len() == 1 => models.clone(),
        Want::Best => PREFERRED
            .iter()
            .map(|q| of_quant(&models, q))
            .find(|f| !f.is_empty())
            .unwrap_or_default(),
    };
    match found.as_slice() {
        [] => Err(fail(match want {
            Want::File(name) => format!("no file {name}; {}", listed()),
            Want::Quant(quant) => format!("no file of quantization {quant}; {}", listed()),
            Want::Best => format!("no usual quantization to choose; {}", listed()),
        })),
        many if many.iter().any(|f| is_split(f)) => Err(fail(format!(
            "{} is split into several files, which cannot be pulled yet",
            many[0]
        ))),
        [one] => Ok(one),
        many => Err(fail(format!("several files fit, name one of them: {}", many.join(", ")))),
    }
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `model-00001-of-00003.gguf`.
fn is_split(path: &str) -> bool {
    let stem = path.get(..path.len().saturating_sub(5)).unwrap_or(path);
    let mut parts = stem.rsplit('-');
    let number =
        |p: Option<&str>| p.is_some_and(|p| p.len() == 5 && p.bytes().all(|b| b.is_ascii_digit()));
    number(parts.next()) && parts.next() == Some("of") && number(parts.next())
}

/// The files whose name holds the quantization as a word of its own.
fn of_quant<'a>(files: &[&'a str], quant: &str) -> Vec<&'a str> {
    let quant = quant.to_ascii_lowercase();
    files
        .iter()
        .copied()
        .filter(|f| {
            let name = base(f).to_ascii_lowercase();
            name.match_indices(&quant).any(|(at, _)| {
                let edge =
                    |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_');
                edge(name[..at].chars().next_back())
                    && edge(name[at + quant.len()..].chars().next())
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(text: &str) -> Want {
        match Name::parse(text).unwrap() {
            Name::Hub { want, .. } => want,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn hub_names_are_read_and_hostile_ones_refused() {
        assert_eq!(hub("hf:a/b"), Want::Best);
        assert_eq!(hub("hf:a/b.c-D_1:Q4_K_M"), Want::Quant("Q4_K_M".into()));
        assert_eq!(hub("hf:a/b:sub/x.Q8_0.GGUF"), Want::File("sub/x.Q8_0.GGUF".into()));
        for bad in [
            "hf:a",
            "hf:../b",
            "hf:a/..",
            "hf:a/b/c",
            "hf:a/b:",
            "hf:a/b:../x.gguf",
            "hf:a/b:/x.gguf",
            "hf:a/b:x\\y.gguf",
            "hf:a b/c",
            "hf:a/b?x",
        ] {
            assert!(matches!(Name::parse(bad), Err(HubError::BadName { .. })), "{bad}");
        }
        let error = Name::parse("smolm2").unwrap_err().to_string();
        assert!(error.contains("did you mean smollm2:135m"), "{error}");
    }

    #[test]
    fn files_are_chosen_by_quantization() {
        let files: Vec<String> = [
            "README.md",
            "m-IQ4_XS.gguf",
            "m-Q4_K_M.gguf",
            "m-Q4_K_S.gguf",
            "m-q8_0.gguf",
            "mmproj-m-Q8_0.gguf",
            "BF16/m-BF16-00001-of-00002.gguf",
            "BF16/m-BF16-00002-of-00002.gguf",
        ]
        .map(String::from)
        .to_vec();
        let pick =
            |want| choose("o/r", &files, &want).map(str::to_string).map_err(|e| e.to_string());
        assert_eq!(pick(Want::Best), Ok("m-Q4_K_M.gguf".into()));
        assert_eq!(pick(Want::Quant("Q8_0".into())), Ok("m-q8_0.gguf".into()));
        assert_eq!(pick(Want::File("m-Q4_K_S.gguf".into())), Ok("m-Q4_K_S.gguf".into()));
        assert!(
            pick(Want::Quant("Q4_K".into()))
                .unwrap_err()
                .contains("no file of quantization Q4_K; it has m-IQ4_XS.gguf")
        );
        assert!(pick(Want::Quant("bf16".into())).unwrap_err().contains("split"));
        assert!(pick(Want::File("x.gguf".into())).is_err());
    }
}
