//! The one exception of the module.

use std::error::Error;
use std::fmt::Display;

use pyo3::exceptions::PyValueError;
use pyo3::{PyErr, create_exception};

create_exception!(sawlog, SawlogError, PyValueError, "What Sawlog refuses, with the reason and what to do.");

/// A refused argument.
pub(crate) fn refused(problem: impl Display) -> PyErr {
    SawlogError::new_err(problem.to_string())
}

/// A failure of the core, with all its reasons.
pub(crate) fn failed(error: impl Error) -> PyErr {
    let mut text = error.to_string();
    let mut reason = error.source();
    while let Some(one) = reason {
        text = format!("{text}: {one}");
        reason = one.source();
    }
    refused(text)
}
