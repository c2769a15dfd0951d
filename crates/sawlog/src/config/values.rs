//! Values of settings: sizes and durations with their units in the text.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

use crate::config::LogForm;

/// A number of bytes, written like `64MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ByteSize(u64);

impl ByteSize {
    pub(crate) const fn bytes(self) -> u64 {
        self.0
    }
}

/// A duration, written like `30s` or `400d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HumanDuration(Duration);

impl HumanDuration {
    pub(crate) const fn duration(&self) -> Duration {
        self.0
    }
}

/// A duration, or `unlimited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Past(pub(crate) Option<HumanDuration>);

/// An address, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MaybeAddress(pub(crate) Option<SocketAddr>);

/// A path, or none where the setting is `"off"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MaybePath(pub(crate) Option<PathBuf>);

/// A type that a setting can have.
pub(crate) trait FromSetting: Sized {
    /// Reads a value; on failure says what it should have been. Environment and flags give everything as text.
    fn from_setting(value: &Value) -> Result<Self, &'static str>;
}

fn split_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim()))
}

fn scaled(text: &str, factor_of: impl Fn(&str) -> Option<f64>) -> Option<f64> {
    let (number, unit) = split_unit(text)?;
    let value = number * factor_of(unit)?;
    (value.is_finite() && value < 9e15).then_some(value)
}

impl FromSetting for ByteSize {
    fn from_setting(value: &Value) -> Result<Self, &'static str> {
        const EXPECTED: &str = "size with a unit";
        let factor = |unit: &str| {
            Some(match unit {
                "" | "B" => 1.0,
                "KiB" => 1024.0,
                "MiB" => 1024f64.powi(2),
                "GiB" => 1024f64.powi(3),
                "KB" => 1e3,
                "MB" => 1e6,
                "GB" => 1e9,
                _ => return None,
            })
        };
        match value {
            Value::Integer(bytes) => u64::try_from(*bytes).map(Self).map_err(|_| EXPECTED),
            Value::String(text) => scaled(text, factor).map(|bytes| Self(bytes as u64)).ok_or(EXPECTED),
            _ => Err(EXPECTED),
        }
    }
}

/// A list of texts; in an environment variable or a flag separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Texts(pub(crate) Vec<String>);

impl FromSetting for Texts {
    fn from_setting(value: &Value) -> Result<Self, &'static str> {
        const EXPECTED: &str = "list of texts";
        match value {
            Value::String(text) => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                Ok(Self(parts.map(ToOwned::to_owned).collect()))
            }
            Value::Array(values) => {
                let texts = values.iter().map(|value| value.as_str().map(ToOwned::to_owned).ok_or(EXPECTED));
                texts.collect::<Result<_, _>>().map(Self)
            }
            _ => Err(EXPECTED),
        }
    }
}

impl FromSetting for HumanDuration {
    fn from_setting(value: &Value) -> Result<Self, &'static str> {
        const EXPECTED: &str = "duration with a unit";
        let factor = |unit: &str| {
            Some(match unit {
                "ms" => 1e-3,
                "s" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3_600.0,
                "d" => 86_400.0,
                _ => return None,
            })
        };
        let Value::String(text) = value else { return Err(EXPECTED) };
        let seconds = scaled(text, factor).filter(|seconds| *seconds < 1e11).ok_or(EXPECTED)?;
        Ok(Self(Duration::from_secs_f64(seconds)))
    }
}

impl FromSetting for Past {
    fn from_setting(value: &Value) -> Result<Self, &'static str> {
        if value.as_str() == Some("unlimited") {
            return Ok(Self(None));
        }
        HumanDuration::from_setting(value).map(|past| Self(Some(past)))
    }
}

impl FromSetting for SocketAddr {
    fn from_setting(value: &Value) -> Result<Self, &'static str> {
        const EXPECTED: &str = "address with a port";
        let text = value.as_str().ok_or(EXPECTED)?;
        text.replace("localhost", "127.0.0.1").parse().map_err(|_| EXPECTED)
    }
}

impl FromSetting for MaybeAddress {
    fn from_setting(value: &Value) -> Result<Self, &'static str> {
        if value.as_str() == Some("off") {
            return Ok(Self(None));
        }
        SocketAddr::from_setting(value)
            .map(|address| Self(Some(address)))
            .map_err(|_| "address with a port, or \"off\"")
    }
}

impl FromSetting for PathBuf {
    fn from_setting(value: &Value) -> Result<Self, &'static str> {
        value.as_str().filter(|text| !text.is_empty()).map(Self::from).ok_or("path")
    }
}

impl FromSetting for MaybePath {
    fn from_setting(value: &Value) -> Result<Self, &'static str> {
        if value.as_str() == Some("off") {
            return Ok(Self(None));
        }
        PathBuf::from_setting(value).map(|path| Self(Some(path))).map_err(|_| "path, or \"off\"")
    }
}

impl FromSetting for String {
    fn from_setting(value: &Value) -> Result<Self, &'static str> {
        value.as_str().map(str::to_owned).ok_or("text")
    }
}

impl FromSetting for bool {
    fn from_setting(value: &Value) -> Result<Self, &'static str> {
        match value {
            Value::Boolean(value) => Ok(*value),
            Value::String(text) => text.parse().map_err(|_| "true or false"),
            _ => Err("true or false"),
        }
    }
}

impl FromSetting for f64 {
    fn from_setting(value: &Value) -> Result<Self, &'static str> {
        const EXPECTED: &str = "number";
        match value {
            Value::Integer(number) => Ok(*number as Self),
            Value::Float(number) => Ok(*number),
            Value::String(text) => text.parse().map_err(|_| EXPECTED),
            _ => Err(EXPECTED),
        }
    }
}

impl FromSetting for usize {
    fn from_setting(value: &Value) -> Result<Self, &'static str> {
        const EXPECTED: &str = "whole number";
        match value {
            Value::Integer(number) => Self::try_from(*number).map_err(|_| EXPECTED),
            Value::String(text) => text.replace('_', "").parse().map_err(|_| EXPECTED),
            _ => Err(EXPECTED),
        }
    }
}

impl FromSetting for LogForm {
    fn from_setting(value: &Value) -> Result<Self, &'static str> {
        match value.as_str() {
            Some("text") => Ok(Self::Text),
            Some("json") => Ok(Self::Json),
            _ => Err("text or json"),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Value {
        Value::String(value.to_owned())
    }

    #[test]
    fn sizes_and_durations_need_known_units() {
        assert_eq!(ByteSize::from_setting(&text("1.5KiB")), Ok(ByteSize(1536)));
        assert_eq!(ByteSize::from_setting(&text("2 MB")), Ok(ByteSize(2_000_000)));
        assert!(ByteSize::from_setting(&text("2 potatoes")).is_err());
        assert!(ByteSize::from_setting(&Value::Integer(-1)).is_err());
        assert_eq!(
            HumanDuration::from_setting(&text("500ms")).map(|value| value.duration()),
            Ok(Duration::from_millis(500))
        );
        assert!(HumanDuration::from_setting(&text("5")).is_err());
        assert!(HumanDuration::from_setting(&text("1e400d")).is_err());
        assert_eq!(Past::from_setting(&text("unlimited")), Ok(Past(None)));
    }
}
