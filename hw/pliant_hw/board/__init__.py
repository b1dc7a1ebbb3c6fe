"""From the core to a board: packaged as IP-XACT, put into a block design, built by Vivado."""
