//! Functions that Postgres clients call and DataFusion lacks: they describe a server that only reads.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, create_udf,
};

use crate::postgres::catalog::DATABASE;

/// The Postgres version whose clients' questions are answered.
pub(crate) const SERVER_VERSION: &str = "16.6";

/// Value of a setting that clients ask for, if there is one.
#[must_use]
pub fn setting_default(name: &str) -> Option<&'static str> {
    Some(match name.to_lowercase().as_str() {
        "server_version" => "16.6 (Sawlog)",
        "server_version_num" => "160006",
        "server_encoding" | "client_encoding" => "UTF8",
        "timezone" => "UTC",
        "datestyle" => "ISO, YMD",
        "intervalstyle" => "postgres",
        "search_path" => "public",
        "transaction_isolation" | "default_transaction_isolation" => "repeatable read",
        "transaction_read_only" | "default_transaction_read_only" => "on",
        "standard_conforming_strings" | "integer_datetimes" => "on",
        "is_superuser" | "in_hot_standby" | "row_security" | "ssl" => "off",
        "statement_timeout" | "lock_timeout" | "idle_in_transaction_session_timeout" => "0",
        "extra_float_digits" => "1",
        "application_name" => "",
        "bytea_output" => "hex",
        "max_identifier_length" => "63",
        "max_index_keys" => "32",
        "lc_collate" | "lc_ctype" | "lc_messages" | "lc_monetary" | "lc_numeric" | "lc_time" => "C",
        "client_min_messages" => "notice",
        "session_authorization" | "role" => "reader",
        _ => return None,
    })
}

/// All of them.
pub(crate) fn all() -> Vec<ScalarUDF> {
    let version = format!("PostgreSQL {SERVER_VERSION} (Sawlog {})", env!("CARGO_PKG_VERSION"));
    let mut functions = vec![
        constant("version", ScalarValue::from(version)),
        constant("current_catalog", ScalarValue::from(DATABASE)),
        constant("pg_is_in_recovery", ScalarValue::from(false)),
        constant("pg_client_encoding", ScalarValue::from("UTF8")),
        constant("inet_server_addr", ScalarValue::Utf8(None)),
        constant("inet_client_addr", ScalarValue::Utf8(None)),
        constant("txid_current", ScalarValue::from(1i64)),
        current_setting(),
        set_config(),
    ];
    let unknown_text = ["obj_description", "col_description", "shobj_description", "pg_get_indexdef"];
    let more_text = ["pg_get_viewdef", "pg_get_triggerdef", "pg_get_ruledef", "pg_get_serial_sequence"];
    let unknown = unknown_text
        .into_iter()
        .chain(more_text)
        .chain(["pg_tablespace_location", "pg_get_functiondef"])
        .chain(["pg_get_function_result", "pg_get_function_arguments"]);
    functions.extend(unknown.map(|name| Fixed::of(name, ScalarValue::Utf8(None))));
    let visible = ["pg_type_is_visible", "pg_function_is_visible", "pg_collation_is_visible", "pg_opclass_is_visible"];
    functions.extend(visible.map(|name| Fixed::of(name, ScalarValue::from(true))));
    let allowed = ["has_column_privilege", "has_function_privilege", "has_sequence_privilege", "pg_has_role"];
    functions.extend(allowed.map(|name| Fixed::of(name, ScalarValue::from(true))));
    functions
}

fn constant(name: &'static str, value: ScalarValue) -> ScalarUDF {
    create_udf(
        name,
        Vec::new(),
        value.data_type(),
        Volatility::Stable,
        Arc::new(move |_: &[ColumnarValue]| Ok(ColumnarValue::Scalar(value.clone()))),
    )
}

fn current_setting() -> ScalarUDF {
    Fixed::with("current_setting", DataType::Utf8, |arguments| {
        let names = ColumnarValue::values_to_arrays(&arguments[..1])?;
        let names = arrow::compute::cast(&names[0], &DataType::Utf8)?;
        let names = arrow::array::AsArray::as_string::<i32>(&names);
        let found: StringArray = names.iter().map(|name| name.and_then(setting_default)).collect();
        Ok(ColumnarValue::Array(Arc::new(found) as ArrayRef))
    })
}

/// Answers with the new value and changes nothing: what a session may set has no effect on answers.
fn set_config() -> ScalarUDF {
    Fixed::with("set_config", DataType::Utf8, |arguments| match arguments.get(1) {
        Some(value) => value.cast_to(&DataType::Utf8, None),
        None => exec_err!("set_config needs a name and a value"),
    })
}

type Body = fn(&[ColumnarValue]) -> Result<ColumnarValue>;

/// A function of any arguments that gives one value, or computes it from them.
#[derive(Debug)]
struct Fixed {
    name: &'static str,
    signature: Signature,
    data_type: DataType,
    value: Option<ScalarValue>,
    body: Option<Body>,
}

impl Fixed {
    fn of(name: &'static str, value: ScalarValue) -> ScalarUDF {
        let signature = Signature::variadic_any(Volatility::Stable);
        ScalarUDF::from(Self { name, signature, data_type: value.data_type(), value: Some(value), body: None })
    }

    fn with(name: &'static str, data_type: DataType, body: Body) -> ScalarUDF {
        let signature = Signature::variadic_any(Volatility::Stable);
        ScalarUDF::from(Self { name, signature, data_type, value: None, body: Some(body) })
    }
}

impl PartialEq for Fixed {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Fixed {}

impl std::hash::Hash for Fixed {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Fixed {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.data_type.clone())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match (&self.value, self.body) {
            (Some(value), _) => Ok(ColumnarValue::Scalar(value.clone())),
            (None, Some(body)) => body(&arguments.args),
            (None, None) => exec_err!("{} has no value", self.name),
        }
    }
}
