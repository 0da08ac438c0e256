//! The checks by their names, which are BuildKit's: a Dockerfile that skips one there skips it here.

/// A check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Its name, as `# check=skip=` takes it.
    pub name: &'static str,
    /// What it asks for, in a sentence.
    pub about: &'static str,
    /// Whether it is made only where `# check=experimental=` asks for it.
    pub experimental: bool,
}

/// Returns the check `name`, if there is one.
pub fn rule(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

const fn of(name: &'static str, about: &'static str) -> Rule {
    Rule { name, about, experimental: false }
}

/// All checks, in the order of their documentation.
pub const RULES: [Rule; 22] = [
    of("StageNameCasing", "Names of stages are written in small letters."),
    of("FromAsCasing", "`as` is written in the case of its `from`."),
    of("NoEmptyContinuation", "There are no empty lines inside an instruction."),
    of("ConsistentInstructionCasing", "All keywords of a file are in capitals, or all in small letters."),
    of("DuplicateStageName", "Each name of a stage is given once."),
    of("ReservedStageName", "No stage has a name that has a meaning of its own: `scratch`, `context`."),
    of("JSONArgsRecommended", "CMD and ENTRYPOINT are JSON arrays, so that signals reach the program and not a shell."),
    of("MaintainerDeprecated", "The author of an image is a label: MAINTAINER is deprecated."),
    of("UndefinedArgInFrom", "The variables of FROM are declared by an ARG before the first FROM."),
    of(
        "WorkdirRelativePath",
        "A relative WORKDIR follows an absolute one of the same Dockerfile, not that of the base image.",
    ),
    of("UndefinedVar", "Variables are defined before they are used."),
    of(
        "MultipleInstructionsDisallowed",
        "A stage has one CMD, one ENTRYPOINT and one HEALTHCHECK: only the last counts.",
    ),
    of("LegacyKeyValueFormat", "ENV and LABEL are written `name=value`, not `name value`."),
    of("InvalidBaseImagePlatform", "A base image is for the platform that it is wanted for."),
    of("RedundantTargetPlatform", "FROM does not ask for $TARGETPLATFORM, which it gets anyway."),
    of("SecretsUsedInArgOrEnv", "No ARG or ENV holds a secret: both can be read in the image or its history."),
    of("InvalidDefaultArgInFrom", "FROM names an image also with the defaults of its ARGs."),
    of("FromPlatformFlagConstDisallowed", "FROM has no fixed --platform, unless the name of the stage says which."),
    of("CopyIgnoredFile", "COPY and ADD name no file that the ignore file leaves out."),
    Rule {
        name: "InvalidDefinitionDescription",
        about: "A comment right above a FROM or an ARG begins with the name that it describes.",
        experimental: true,
    },
    of("ExposeProtoCasing", "The protocol of EXPOSE is written in small letters."),
    of("ExposeInvalidFormat", "EXPOSE names ports of the container only, not addresses or ports of the host."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_has_a_name_of_its_own_and_only_one_is_experimental() {
        for (at, one) in RULES.iter().enumerate() {
            assert!(RULES[..at].iter().all(|other| other.name != one.name), "{}", one.name);
            assert_eq!(rule(one.name), Some(one));
        }
        let experimental: Vec<&str> = RULES.iter().filter(|rule| rule.experimental).map(|rule| rule.name).collect();
        assert_eq!(experimental, ["InvalidDefinitionDescription"]);
        assert_eq!(rule("undefinedvar"), None);
    }

    #[test]
    fn the_document_lists_them_all_in_their_order() {
        let document = include_str!("../../../docs/checks.md");
        let listed = document.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
        let listed: Vec<(&str, &str)> = listed.filter(|(name, _)| rule(name).is_some()).collect();
        assert_eq!(listed.len(), RULES.len());
        for (rule, (name, about)) in RULES.iter().zip(listed) {
            assert_eq!(name, rule.name);
            assert!(about.starts_with(rule.about), "{name}: {about}");
        }
    }
}
