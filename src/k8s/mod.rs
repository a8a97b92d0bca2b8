//! The border to Kubernetes: its types end here. A cluster or a folder of manifests feeds one index, which publishes a
//! [`crate::advertise::ClusterView`] through `watch<Option<Arc<ClusterView>>>`: `None` until everything was read once.
