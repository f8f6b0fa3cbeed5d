"""What `make bench` measures: the product's promises at full size, against real processes on loopback."""
