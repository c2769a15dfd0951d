//! What can be found out about an instance without touching its data: where it is, and what the caller may do.

use std::sync::Arc;

use googleapis_tonic_google_bigtable_admin_v2::google::bigtable::admin::v2::ListClustersRequest;
use googleapis_tonic_google_iam_v1::google::iam::v1::TestIamPermissionsRequest;
use sawlog_core::bigtable::BigtableTable;
use tonic::Status;

use super::client::{Bigtable, Client};
use super::error::BigtableError;

impl Bigtable {
    /// Zones of the clusters of the instance: `europe-west1-b`.
    pub(crate) fn zones(&self) -> Result<Vec<String>, BigtableError> {
        self.run(|client| async move { client.zones().await })
    }

    /// Those of a list of permissions that the caller has on a table, or on the instance.
    pub(crate) fn held_permissions(
        &self,
        table: Option<BigtableTable>,
        permissions: &[&'static str],
    ) -> Result<Vec<String>, BigtableError> {
        let permissions = permissions.iter().map(|one| (*one).to_owned()).collect();
        self.run(move |client| async move { client.held_permissions(table, permissions).await })
    }
}

impl Client {
    async fn zones(self: &Arc<Self>) -> Result<Vec<String>, BigtableError> {
        let parent = self.options.instance_name();
        let list = async || {
            let message = ListClustersRequest { parent: parent.clone(), ..ListClustersRequest::default() };
            let request = self.admin_request("parent", &parent, message).await?;
            Ok(self.instances().list_clusters(request).await?.into_inner())
        };
        let mut tries = self.caller.begin("ListClusters");
        let listed = loop {
            match tries.run::<_, Status>(list()).await {
                Ok(listed) => break listed,
                Err(failure) => tries.wait(failure).await?,
            }
        };
        let zone = |location: &str| location.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(listed.clusters.iter().map(|cluster| zone(&cluster.location)).collect())
    }

    async fn held_permissions(
        self: &Arc<Self>,
        table: Option<BigtableTable>,
        permissions: Vec<String>,
    ) -> Result<Vec<String>, BigtableError> {
        let resource = table.map_or_else(|| self.options.instance_name(), |table| self.options.table_name(table));
        let test = async || {
            let message = TestIamPermissionsRequest { resource: resource.clone(), permissions: permissions.clone() };
            let request = self.admin_request("resource", &resource, message).await?;
            let answer = match table {
                Some(_) => self.admin().test_iam_permissions(request).await?,
                None => self.instances().test_iam_permissions(request).await?,
            };
            Ok(answer.into_inner().permissions)
        };
        let mut tries = self.caller.begin("TestIamPermissions");
        loop {
            match tries.run::<_, Status>(test()).await {
                Ok(held) => return Ok(held),
                Err(failure) => tries.wait(failure).await?,
            }
        }
    }
}
