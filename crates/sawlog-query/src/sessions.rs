//! Sessions as a SQL table.
//!
//! For: `sessions`: those that are closed, from their pane table, and those that are open or have changed since the last
//! flush, from the serving store with what is in memory. What memory and the watermark have changed shows as the panes
//! that the next flush writes, so that the newest pane of each session is what counts everywhere. Not for: what becomes of
//! sessions (`sawlog_core::session`).

use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::union::UnionExec;
use sawlog_core::rowkey;
use sawlog_core::session::{self, Chain, SessionDeltas, SessionRow, StoredChain, UserChains};
use sawlog_seams::serving::{Family, ServingSnapshot};
use sawlog_seams::view::{HotSessions, SessionRules, View};

use crate::latest_panes::LatestPanes;

pub(crate) const SESSIONS_TABLE: &str = "sessions";
/// Chains of one batch.
const PAGE_CHAINS: usize = 1_024;

/// The table `sessions` of a view over the pane table.
pub(crate) fn sessions_table(panes: Arc<dyn TableProvider>, view: &View) -> LatestPanes {
    LatestPanes::of_sessions(Arc::new(AllPanes { panes, live: LiveSessions::of(view) }))
}

/// Sessions that the pane table does not show as they are now.
#[derive(Clone)]
pub(crate) struct LiveSessions {
    hot: Vec<Arc<dyn HotSessions>>,
    serving: Arc<dyn ServingSnapshot>,
    rules: SessionRules,
    watermark: i64,
}

impl fmt::Debug for LiveSessions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("live sessions")
    }
}

impl LiveSessions {
    pub(crate) fn of(view: &View) -> Self {
        Self {
            hot: view.hot_sessions.clone(),
            serving: Arc::clone(&view.serving),
            rules: view.session_rules,
            watermark: view.watermark,
        }
    }

    fn cursor(&self, user: Option<&str>) -> Cursor {
        let mut hot = SessionDeltas::default();
        self.hot.iter().for_each(|source| source.merge_into(&mut hot, user, &self.rules.options));
        let hot = hot.users().map(|(user, chains)| (user.to_owned(), chains.to_vec())).collect();
        let (start, end) = match user {
            Some(user) => (session::key(user), [session::key(user), vec![0]].concat()),
            None => rowkey::range_of(session::KEY_BYTE),
        };
        Cursor { live: self.clone(), hot, resume: Some(start), end }
    }

    /// The sessions of one user that are open, or whose last events are so recent that they may change.
    pub(crate) fn of_user(&self, user: &str) -> Result<Vec<SessionRow>> {
        let user = rowkey::bounded(user);
        let (mut cursor, mut rows) = (self.cursor(Some(&user)), Vec::new());
        let stored = cursor.read()?.pop().map(|(_, chains)| chains).unwrap_or_default();
        cursor.show(&user, stored, true, &mut rows);
        rows.retain(|row| !row.is_retracted);
        Ok(rows)
    }
}

/// Where a reader of live sessions is.
struct Cursor {
    live: LiveSessions,
    /// What is in memory and was not given out yet.
    hot: HashMap<String, Vec<Chain>>,
    /// Key in the store to go on from; `None` when all are read.
    resume: Option<Vec<u8>>,
    end: Vec<u8>,
}

impl Cursor {
    fn next_page(&mut self) -> Result<Option<RecordBatch>> {
        let mut rows = Vec::new();
        while rows.is_empty() && self.resume.is_some() {
            for (user, stored) in self.read()? {
                self.show(&user, stored, false, &mut rows);
            }
        }
        if rows.is_empty() {
            let users: Vec<String> = self.hot.keys().take(PAGE_CHAINS).cloned().collect();
            users.iter().for_each(|user| self.show(user, Vec::new(), false, &mut rows));
        }
        if rows.is_empty() {
            return Ok(None);
        }
        Ok(Some(session::session_rows(&rows)?))
    }

    /// The next users of the store with their chains.
    fn read(&mut self) -> Result<Vec<(String, Vec<StoredChain>)>> {
        let Some(start) = self.resume.take() else { return Ok(Vec::new()) };
        let (mut users, mut count, mut failure) = (Vec::new(), 0, None);
        let resume = &mut self.resume;
        let mut visit = |key: &[u8], value: &[u8]| {
            let (Some(user), Ok(found)) = (session::user_of(key), UserChains::from_bytes(value)) else {
                failure = Some("sessions cannot be read");
                return ControlFlow::Break(());
            };
            if count >= PAGE_CHAINS {
                *resume = Some(key.to_vec());
                return ControlFlow::Break(());
            }
            count += found.chains.len();
            users.push((user, found.chains));
            ControlFlow::Continue(())
        };
        self.live.serving.scan_each(Family::Session, &start, Some(&self.end), &mut visit).map_err(failed)?;
        match failure {
            Some(problem) => Err(failed(problem)),
            None => Ok(users),
        }
    }

    /// Adds the sessions of a user that the pane table does not show as they are now; with `is_all` the closed ones too
    /// that it does.
    fn show(&mut self, user: &str, stored: Vec<StoredChain>, is_all: bool, rows: &mut Vec<SessionRow>) {
        let LiveSessions { rules, watermark, .. } = self.live;
        let arrived = self.hot.remove(user).unwrap_or_default();
        let advanced = session::advance(user, stored, &arrived, watermark, rules.lateness, &rules.options);
        rows.extend(advanced.emitted);
        for chain in advanced.changed.iter().chain(&advanced.unchanged) {
            rows.extend(chain.open_rows(user, watermark, &rules.options));
        }
        if is_all {
            let closed = advanced.unchanged.iter().flat_map(|chain| chain.closed_rows(user, watermark, &rules.options));
            rows.extend(closed);
        }
    }
}

fn failed(error: impl fmt::Display) -> DataFusionError {
    DataFusionError::Execution(error.to_string())
}

/// The pane table, and in front of it the panes that the next flush would write.
#[derive(Debug)]
struct AllPanes {
    panes: Arc<dyn TableProvider>,
    live: LiveSessions,
}

#[async_trait]
impl TableProvider for AllPanes {
    fn schema(&self) -> SchemaRef {
        session::session_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let user = filters.iter().find_map(user_of);
        let part = Arc::new(Part { live: self.live.clone(), user, schema: self.schema() });
        let live = StreamingTableExec::try_new(self.schema(), vec![part], projection, [], false, limit)?;
        let stored = self.panes.scan(state, projection, filters, limit).await?;
        UnionExec::try_new(vec![Arc::new(live), stored])
    }
}

/// The user that a filter asks for, if it asks for one.
fn user_of(filter: &Expr) -> Option<String> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = filter else { return None };
    let (column, value) = match (left.as_ref(), right.as_ref()) {
        (Expr::Column(column), Expr::Literal(value, _)) | (Expr::Literal(value, _), Expr::Column(column)) => {
            (column, value)
        }
        _ => return None,
    };
    match value {
        ScalarValue::Utf8(Some(user)) | ScalarValue::Utf8View(Some(user)) if column.name == "user_id" => {
            Some(user.clone())
        }
        _ => None,
    }
}

#[derive(Debug)]
struct Part {
    live: LiveSessions,
    user: Option<String>,
    schema: SchemaRef,
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (live, user) = (self.live.clone(), self.user.clone());
        // Memory is gone through when the query runs, not when it is planned.
        let pages = futures::stream::unfold(None, move |cursor: Option<Cursor>| {
            let (live, user) = (live.clone(), user.clone());
            async move {
                tokio::task::consume_budget().await;
                let mut cursor = cursor.unwrap_or_else(|| live.cursor(user.as_deref()));
                cursor.next_page().transpose().map(|page| (page, Some(cursor)))
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), pages))
    }
}
