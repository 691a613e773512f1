//! The command line's flags, made from the table.

use super::options::{Flag, OptionError, SamplerOptions};
use super::table::SAMPLERS;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, error::ErrorKind};

/// The sampling flags of a command: `#[command(flatten)] sampling: SamplerArgs`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplerArgs {
    /// What the flags say; the defaults for those that were not given.
    pub options: SamplerOptions,
    /// The fields of the flags that were given, and their values.
    given: Vec<(&'static str, Vec<String>)>,
}

impl SamplerArgs {
    /// What the flags say, for a model with defaults of its own.
    ///
    /// # Errors
    /// A value that does not fit the defaults.
    pub fn over(&self, mut defaults: SamplerOptions) -> Result<SamplerOptions, OptionError> {
        for (field, values) in &self.given {
            defaults.set(field, &values.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        Ok(defaults)
    }
}

impl Args for SamplerArgs {
    fn augment_args(mut command: Command) -> Command {
        for flag in SAMPLERS.iter().flat_map(|kind| kind.flags) {
            command = command.arg(arg(flag));
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn arg(flag: &'static Flag) -> Arg {
    let help = match flag.default_text() {
        Some(default) => format!("{} [default: {default}]", flag.help),
        None => flag.help.to_owned(),
    };
    let action = if flag.repeats { ArgAction::Append } else { ArgAction::Set };
    let arg = Arg::new(flag.field)
        .long(flag.long)
        .value_name(flag.value_name)
        .help(help)
        .help_heading("Sampling")
        .action(action)
        .allow_hyphen_values(true);
    match flag.short {
        Some(short) => arg.short(short),
        None => arg,
    }
}

impl FromArgMatches for SamplerArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = SamplerArgs::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for flag in Flag::all() {
            let Some(values) = matches.get_many::<String>(flag.field) else {
                continue;
            };
            let values: Vec<_> = values.map(String::as_str).collect();
            self.options.set(flag.field, &values).map_err(|error| {
                clap::Error::raw(ErrorKind::ValueValidation, format!("{error}\n"))
            })?;
            self.given.push((flag.field, values.into_iter().map(str::to_owned).collect()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(args: &[&str]) -> Result<SamplerArgs, clap::Error> {
        let command = SamplerArgs::augment_args(Command::new("t"));
        SamplerArgs::from_arg_matches(&command.try_get_matches_from([&["t"], args].concat())?)
    }

    fn parse(args: &[&str]) -> Result<SamplerOptions, clap::Error> {
        Ok(flags(args)?.options)
    }

    #[test]
    fn no_flag_gives_the_defaults() {
        assert_eq!(parse(&[]).unwrap(), SamplerOptions::default());
    }

    #[test]
    fn flags_come_before_the_defaults_of_a_model() {
        let greedy = || SamplerOptions::default().temperature(0.0).top_k(3);
        assert_eq!(flags(&[]).unwrap().over(greedy()).unwrap(), greedy());
        let warm = flags(&["--temp", "0.8", "--logit-bias", "3-2", "--logit-bias", "4+1"]).unwrap();
        let o = warm.over(greedy()).unwrap();
        assert_eq!((o.temperature, o.top_k, o.logit_bias.len()), (0.8, 3, 2), "0.8 was asked for");
    }

    #[test]
    fn flags_reach_their_options() {
        let flags = "--temp 0.5 --top-k 7 -s 9 --repeat-last-n -1 --presence-penalty -0.5 -l 3-2 -l 4+1 \
                     --samplers top_k;temp --dry-sequence-breaker \\n";
        let o = parse(&flags.split_whitespace().collect::<Vec<_>>()).unwrap();
        assert_eq!((o.temperature, o.top_k, o.seed), (0.5, 7, Some(9)));
        assert_eq!((o.repeat_last_n, o.presence_penalty), (-1, -0.5));
        assert_eq!(
            o.logit_bias.iter().map(|b| (b.token, b.bias)).collect::<Vec<_>>(),
            [(3, -2.0), (4, 1.0)]
        );
        assert_eq!(o.samplers.to_string(), "top-k;temperature");
        assert_eq!(o.dry_sequence_breakers, ["\n"]);
        assert_eq!(
            parse(&["--dry-sequence-breaker", "none"]).unwrap().dry_sequence_breakers,
            [""; 0]
        );
        assert_eq!(parse(&["--seed", "-1"]).unwrap().seed, None);
    }

    #[test]
    fn a_bad_value_is_a_usage_error_that_names_flag_and_range() {
        for (args, expected) in [
            (["--temp", "-1"], "a number from 0 to"),
            (["--temp", "nan"], "a number from 0 to"),
            (["--top-p", "1.01"], "a number from 0 to 1"),
            (["--top-k", "-3"], "a whole number"),
            (["--mirostat", "1"], "0 (off) or 2"),
            (["--dry-allowed-length", "0"], "at least 1"),
            (["--samplers", "top-k;best"], "out of these: penalties, dry, top-k"),
        ] {
            let error = parse(&args).unwrap_err();
            let text = error.to_string();
            assert_eq!(error.exit_code(), 2);
            let found = format!("({}): found {}, expected ", args[0], args[1]);
            assert!(text.contains(&found) && text.contains(expected), "{text}");
        }
    }

    #[test]
    fn the_help_shows_every_flag_with_its_default() {
        let help = SamplerArgs::augment_args(Command::new("t")).render_long_help().to_string();
        // Long lines are wrapped.
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for flag in Flag::all() {
            assert!(
                help.contains(&format!("--{} <{}>", flag.long, flag.value_name)),
                "{}",
                flag.long
            );
        }
        assert!(
            help.contains("[default: 0.95]") && help.contains(r#"[default: \n : \" *]"#),
            "{help}"
        );
    }
}
