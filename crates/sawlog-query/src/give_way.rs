//! Letting other tasks run beside operators that make much out of little.
//!
//! For: joins and unnests, which can go on for minutes over one batch of input. DataFusion gives way where rows are
//! read, which such an operator hardly does; so it gives way where its rows come out. Without that a few cross joins
//! hold all query threads, and neither a cancellation nor another query gets a turn. Not for: limits of time, which the
//! engine sets.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;

/// Operators that can give far more rows than they read.
const MULTIPLIERS: [&str; 5] =
    ["CrossJoinExec", "NestedLoopJoinExec", "HashJoinExec", "SortMergeJoinExec", "UnnestExec"];

/// Puts a place to give way above each of [`MULTIPLIERS`].
#[derive(Debug)]
pub(crate) struct GiveWay;

impl PhysicalOptimizerRule for GiveWay {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let above = |node: Arc<dyn ExecutionPlan>| {
            if !MULTIPLIERS.contains(&node.name()) {
                return Ok(Transformed::no(node));
            }
            Ok(Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>))
        };
        plan.transform_up(above).map(|done| done.data)
    }

    fn name(&self) -> &'static str {
        "GiveWay"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use datafusion::execution::SessionStateBuilder;
    use datafusion::prelude::SessionContext;
    use futures::StreamExt;

    use super::*;

    #[test]
    fn a_cross_join_gives_way_to_a_timer_on_the_same_thread() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let state = SessionStateBuilder::new()
                .with_default_features()
                .with_physical_optimizer_rule(Arc::new(GiveWay))
                .build();
            let context = SessionContext::new_with_state(state);
            let sql = "SELECT count(*) FROM range(100000) a, range(100000) b WHERE a.value + b.value > 7";
            let frame = context.sql(sql).await.expect("planned");
            let mut rows = frame.execute_stream().await.expect("started");
            let ended = tokio::time::timeout(Duration::from_millis(50), rows.next()).await;
            assert!(ended.is_err(), "the timer could end it");
        });
    }
}
