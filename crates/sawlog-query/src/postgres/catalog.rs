//! `pg_catalog`: what Postgres clients ask about databases, tables, columns and types.
//!
//! For: one catalog for the life of an engine, so that ids of objects stay the same from one query of a client to its
//! next (`psql` looks a table up by name and asks for its columns by id). Not for: the data of tables.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::SchemaProvider;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{ScalarUDF, TableType};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_pg_catalog::pg_catalog::catalog_info::CatalogInfo;
use datafusion_pg_catalog::pg_catalog::context::{PgCatalogContextProvider, Role};
use datafusion_pg_catalog::pg_catalog::generate_series_arg_coercion::CoerceIntArgsToBigInt;
use datafusion_pg_catalog::pg_catalog::{PgCatalogSchemaProvider, PgCatalogStaticTables};
use datafusion_pg_catalog::setup_pg_catalog;

use crate::postgres::functions;

/// Name of the one database.
pub(crate) const DATABASE: &str = "sawlog";
/// Schema of all tables.
pub(crate) const SCHEMA: &str = "public";
const PG_SCHEMA: &str = "pg_catalog";

/// The catalog and the functions of Postgres.
pub(crate) struct PgCatalog {
    schema: Arc<dyn SchemaProvider>,
    functions: Vec<Arc<ScalarUDF>>,
}

impl PgCatalog {
    /// Makes the catalog for the tables of `context`, which are the same for every query.
    pub(crate) async fn new(context: &SessionContext) -> Result<Self> {
        let mut tables = BTreeMap::new();
        let catalog = context.catalog(DATABASE);
        if let Some(schema) = catalog.and_then(|catalog| catalog.schema(SCHEMA)) {
            for name in schema.table_names() {
                if let Some(table) = schema.table(&name).await? {
                    tables.insert(name, (table.schema(), table.table_type()));
                }
            }
        }
        let static_tables = Arc::new(PgCatalogStaticTables::try_new()?);
        let schema = PgCatalogSchemaProvider::try_new(Tables(Arc::new(tables)), static_tables, OneRole)?;
        Ok(Self { schema: Arc::new(schema), functions: postgres_functions()? })
    }

    /// Adds catalog and functions to the context of one query.
    pub(crate) fn install(&self, context: &SessionContext) -> Result<()> {
        let catalog = context.catalog(DATABASE);
        let catalog = catalog.ok_or_else(|| DataFusionError::Internal(format!("there is no catalog {DATABASE}")))?;
        catalog.register_schema(PG_SCHEMA, Arc::clone(&self.schema))?;
        for function in &self.functions {
            context.register_udf(function.as_ref().clone());
        }
        CoerceIntArgsToBigInt::widen(context);
        Ok(())
    }
}

/// The functions that `setup_pg_catalog` adds to a context, and Sawlog's own after them.
fn postgres_functions() -> Result<Vec<Arc<ScalarUDF>>> {
    let config = SessionConfig::new().with_default_catalog_and_schema(DATABASE, SCHEMA);
    let scratch = SessionContext::new_with_config(config);
    let before: HashSet<String> = scratch.state().scalar_functions().keys().cloned().collect();
    setup_pg_catalog(&scratch, DATABASE, OneRole).map_err(|error| *error)?;
    let state = scratch.state();
    let added = state.scalar_functions().iter().filter(|(name, _)| !before.contains(*name));
    let mut functions: Vec<Arc<ScalarUDF>> = added.map(|(_, function)| Arc::clone(function)).collect();
    functions.extend(functions::all().into_iter().map(Arc::new));
    Ok(functions)
}

/// Names and columns of all tables.
#[derive(Clone, Debug)]
struct Tables(Arc<BTreeMap<String, (SchemaRef, TableType)>>);

impl Tables {
    fn table(&self, catalog: &str, schema: &str, table: &str) -> Option<&(SchemaRef, TableType)> {
        self.0.get(table).filter(|_| catalog == DATABASE && schema == SCHEMA)
    }
}

#[async_trait]
impl CatalogInfo for Tables {
    async fn catalog_names(&self) -> Result<Vec<String>> {
        Ok(vec![DATABASE.to_owned()])
    }

    async fn schema_names(&self, catalog_name: &str) -> Result<Option<Vec<String>>> {
        let names = [SCHEMA, PG_SCHEMA, "information_schema"].map(str::to_owned).to_vec();
        Ok((catalog_name == DATABASE).then_some(names))
    }

    async fn table_names(&self, catalog_name: &str, schema_name: &str) -> Result<Option<Vec<String>>> {
        let is_ours = catalog_name == DATABASE && schema_name == SCHEMA;
        Ok(Some(if is_ours { self.0.keys().cloned().collect() } else { Vec::new() }))
    }

    async fn table_schema(&self, catalog: &str, schema: &str, table: &str) -> Result<Option<SchemaRef>> {
        Ok(self.table(catalog, schema, table).map(|(schema, _)| Arc::clone(schema)))
    }

    async fn table_type(&self, catalog: &str, schema: &str, table: &str) -> Result<Option<TableType>> {
        Ok(self.table(catalog, schema, table).map(|(_, table_type)| *table_type))
    }
}

/// Everyone who may ask may read everything and change nothing.
#[derive(Clone, Debug)]
struct OneRole;

#[async_trait]
impl PgCatalogContextProvider for OneRole {
    async fn roles(&self) -> Vec<String> {
        vec!["reader".to_owned()]
    }

    async fn role(&self, name: &str) -> Option<Role> {
        (name == "reader").then(|| Role {
            name: name.to_owned(),
            is_superuser: false,
            can_login: true,
            can_create_db: false,
            can_create_role: false,
            can_create_user: false,
            can_replication: false,
            grants: Vec::new(),
            inherited_roles: Vec::new(),
        })
    }
}
