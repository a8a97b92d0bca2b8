# make test   everything, as CI runs it          make bench   speed, with thresholds
# make demo   the main job on one machine         make image   the container image
.PHONY: test demo bench image fmt

test:
	proto-tests/run

demo:
	cargo run --release -- demo

bench:
	proto-tests/packages.sh
	cargo bench --locked --bench bench

image:
	deploy/image.sh target/herald.oci

fmt:
	cargo fmt
