//! Parameters of prepared statements.
//!
//! For: reading the values that a client binds, as text or in Postgres' binary forms, and naming their types. Not for:
//! casting them to the types of the statement (`sawlog-query`).

use arrow::datatypes::{DataType, TimeUnit};
use bytes::Bytes;
use pgwire::api::Type;
use pgwire::error::PgWireResult;
use sawlog_query::ParameterValue;

use super::error::error;

/// Postgres counts from 2000-01-01.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
const EPOCH_DAYS: i32 = 10_957;

/// The type that a client declares for a parameter; `None` where it leaves it to the statement.
pub(super) fn declared_type(declared: &Type) -> Option<DataType> {
    Some(match *declared {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::Int16,
        Type::INT4 => DataType::Int32,
        Type::INT8 => DataType::Int64,
        Type::OID => DataType::UInt32,
        Type::FLOAT4 => DataType::Float32,
        Type::FLOAT8 | Type::NUMERIC => DataType::Float64,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::JSON | Type::JSONB | Type::UUID => {
            DataType::Utf8
        }
        Type::BYTEA => DataType::Binary,
        Type::DATE => DataType::Date32,
        Type::TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
        Type::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        _ => return None,
    })
}

/// The type that a client is told for a parameter.
pub(super) fn told_type(data_type: &DataType) -> Type {
    match data_type {
        DataType::List(_) | DataType::Map(..) | DataType::Struct(_) => Type::TEXT,
        _ => arrow_pg::datatypes::into_pg_type(data_type).unwrap_or(Type::TEXT),
    }
}

/// The value of parameter `number` (from 1).
pub(super) fn value(
    number: usize,
    bytes: Option<&Bytes>,
    is_binary: bool,
    pg_type: &Type,
) -> PgWireResult<ParameterValue> {
    let Some(bytes) = bytes else { return Ok(ParameterValue::Null) };
    if is_binary {
        return binary(bytes, pg_type).ok_or_else(|| {
            let problem = format!("parameter ${number}: its {} bytes are no binary {pg_type}", bytes.len());
            error("22P03", problem, "send the parameter as text")
        });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| {
        error("22021", format!("parameter ${number} is not UTF-8"), "set client_encoding to UTF8 and send UTF-8")
    })?;
    if *pg_type == Type::BYTEA {
        return bytea(text).map(ParameterValue::Bytes).ok_or_else(|| {
            error("22P02", format!("parameter ${number} is no bytea"), "write it as \\x and hexadecimal digits")
        });
    }
    Ok(ParameterValue::Text(text.to_owned()))
}

fn binary(bytes: &[u8], pg_type: &Type) -> Option<ParameterValue> {
    let long = || bytes.try_into().ok().map(i64::from_be_bytes);
    Some(match *pg_type {
        Type::BOOL => ParameterValue::Bool(*bytes.first().filter(|_| bytes.len() == 1)? != 0),
        Type::INT2 => ParameterValue::Int(i16::from_be_bytes(bytes.try_into().ok()?).into()),
        Type::INT4 => ParameterValue::Int(i32::from_be_bytes(bytes.try_into().ok()?).into()),
        Type::OID => ParameterValue::Int(u32::from_be_bytes(bytes.try_into().ok()?).into()),
        Type::INT8 => ParameterValue::Int(long()?),
        Type::FLOAT4 => ParameterValue::Float(f32::from_be_bytes(bytes.try_into().ok()?).into()),
        Type::FLOAT8 => ParameterValue::Float(f64::from_be_bytes(bytes.try_into().ok()?)),
        Type::BYTEA => ParameterValue::Bytes(bytes.to_vec()),
        Type::DATE => ParameterValue::Date(i32::from_be_bytes(bytes.try_into().ok()?).checked_add(EPOCH_DAYS)?),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => ParameterValue::Time(long()?.checked_add(EPOCH_MICROS)?),
        Type::UUID => ParameterValue::Text(uuid(bytes.try_into().ok()?)),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN | Type::JSON => {
            ParameterValue::Text(std::str::from_utf8(bytes).ok()?.to_owned())
        }
        _ => return None,
    })
}

fn uuid(bytes: [u8; 16]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn bytea(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?;
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    (digits.len() % 2 == 0).then(|| digits.as_bytes().chunks(2).map(byte).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], pg_type: Type, expected: Option<ParameterValue>) {
        assert_eq!(binary(bytes, &pg_type), expected);
    }

    #[test]
    fn binary_forms_are_read() {
        check(&[1], Type::BOOL, Some(ParameterValue::Bool(true)));
        check(&(-2i16).to_be_bytes(), Type::INT2, Some(ParameterValue::Int(-2)));
        check(&0i64.to_be_bytes(), Type::TIMESTAMPTZ, Some(ParameterValue::Time(EPOCH_MICROS)));
        check(&1i32.to_be_bytes(), Type::DATE, Some(ParameterValue::Date(10_958)));
        check(&[0x11; 16], Type::UUID, Some(ParameterValue::Text("11111111-1111-1111-1111-111111111111".to_owned())));
        check(b"\xff", Type::TEXT, None);
        check(&[1, 2, 3], Type::INT4, None);
        check(&i64::MAX.to_be_bytes(), Type::TIMESTAMP, None);
        check(&i32::MAX.to_be_bytes(), Type::DATE, None);
        check(&[], Type::BOOL, None);
    }

    #[test]
    fn bytea_text_is_hexadecimal() {
        assert_eq!(bytea("\\x00ff"), Some(vec![0, 255]));
        assert_eq!(bytea("\\x"), Some(Vec::new()));
        for wrong in ["00ff", "\\x0", "\\xzz", "\\xä", ""] {
            assert_eq!(bytea(wrong), None, "{wrong}");
        }
    }
}
