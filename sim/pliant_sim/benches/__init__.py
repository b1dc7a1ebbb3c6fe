"""cocotb benches of blocks and buses, their models, and how to run them."""
