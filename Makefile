# make test   everything, as CI runs it          make bench   speed, with thresholds
# make demo   the main job on one machine         make soak    what takes longer, for BUDGET=30m
# make image  the container image                make e2e     Kubernetes' own load balancer tests, 20 minutes; needs root
.PHONY: test demo bench soak e2e image fmt

test:
	proto-tests/run

demo:
	cargo run --release -- demo

bench:
	proto-tests/packages.sh
	cargo bench --locked --bench bench

soak:
	proto-tests/packages.sh
	proto-tests/go-build.sh all
	proto-tests/soak

e2e:
	proto-tests/packages.sh
	proto-tests/go-build.sh all
	cargo test --locked --test cluster -- --ignored e2e_all

image:
	deploy/image.sh target/herald.oci

fmt:
	cargo fmt
