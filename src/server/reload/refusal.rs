//! Why a new configuration is not taken over.

use thiserror::Error;

use crate::admin::Problem;
use crate::config::{ConfigError, Errors, Fault, Faults};
use crate::server::StartError;

/// Why a new configuration is not taken over. Nothing has changed.
#[derive(Debug, Error)]
pub enum Refusal {
    /// It has errors.
    #[error(transparent)]
    Config(#[from] Errors),
    /// The files that it names have: certificates, keys, and lists of networks.
    #[error(transparent)]
    Files(#[from] Faults),
    /// It cannot be put into force: an address cannot be bound, mostly.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl Refusal {
    /// One a line, as the command line shows them too.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Config(errors) => errors.iter().map(ConfigError::to_string).collect(),
            Self::Files(faults) => faults.0.iter().map(Fault::to_string).collect(),
            Self::Start(error) => vec![error.to_string()],
        }
    }

    /// The same for programs.
    pub fn problems(&self) -> Vec<Problem> {
        match self {
            Self::Config(errors) => errors.iter().map(Problem::from).collect(),
            Self::Files(faults) => faults.0.iter().map(Problem::from).collect(),
            Self::Start(error) => vec![Problem::from(error.to_string())],
        }
    }
}
