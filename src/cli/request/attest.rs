use super::UsageError;
use crate::cli::args::{AttestArgs, AttestSpec, FormName, Look, OutputSpec, Provenance, Sbom};

/// What is said about the images of a build, in attestations beside them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttestRequest {
    /// How they were made.
    pub provenance: Option<Provenance>,
    /// What is in them.
    pub sbom: Option<Sbom>,
}

impl AttestRequest {
    pub(super) fn new(args: AttestArgs, outputs: &[OutputSpec]) -> Result<Self, UsageError> {
        let (mut provenance, mut sbom) = (Vec::new(), Vec::new());
        provenance.extend(args.provenance.map(|flag| flag.0));
        sbom.extend(args.sbom.map(|flag| flag.0));
        for spec in args.attest {
            match spec {
                AttestSpec::Provenance(wanted) => provenance.push(wanted),
                AttestSpec::Sbom(wanted) => sbom.push(wanted),
            }
        }
        for (kind, count) in [("provenance", provenance.len()), ("sbom", sbom.len())] {
            if count > 1 {
                return Err(UsageError::AttestTwice { kind });
            }
        }
        let request = AttestRequest { provenance: provenance.pop().flatten(), sbom: sbom.pop().flatten() };
        if request.is_wanted() && outputs.iter().any(|output| matches!(output, OutputSpec::DockerArchive(_))) {
            return Err(UsageError::AttestDocker);
        }
        Ok(request)
    }

    /// Returns whether anything is to be said.
    pub fn is_wanted(&self) -> bool {
        self.provenance.is_some() || self.sbom.is_some()
    }

    /// Refuses a form that has no word for it.
    pub(super) fn check(&self, look: &Look) -> Result<(), UsageError> {
        match look.form {
            Some(FormName::Docker) if self.is_wanted() => Err(UsageError::AttestForm),
            _ => Ok(()),
        }
    }
}
