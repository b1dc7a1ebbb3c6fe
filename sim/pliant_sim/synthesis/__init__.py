"""Area and logic depth of the core with open tools: Yosys and a pass over its netlists."""
