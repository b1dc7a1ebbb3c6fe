"""The Vivado project of a board: from the packaged core to a bitstream, as Tcl."""

from __future__ import annotations

from pliant.spec.platform import DESIGN, Platform
from pliant_hw.board.boards import BOARDS

OLDEST_VIVADO = "2020.2"
"""Since this version the files of a block design are where the script looks for them."""

RESULT = "result.json"
"""What the script writes beside the bitstream: tool, slacks, and the digest it was given."""

BLOCK_DESIGN, BUILD, CONSTRAINTS = "block_design.tcl", "build.tcl", "constraints.xdc"

CORE_DIRECTORY = "ip/pliant_core"
"""Where the packaged core is, beside the scripts."""


def bitstream_name(platform: Platform) -> str:
    """Return the stem of the .bit and .hwh files; PYNQ wants it to be the same."""
    return f"pliant_{platform.name}"


def constraints() -> str:
    """Return the constraints of the whole design.

    There are few: the only clock is the processing system's, whose IP constrains it, and no signal
    leaves the device but through the processing system.
    """
    return ("# The clock is constrained by the processing system's IP; there are no pins.\n"
            "set_property BITSTREAM.GENERAL.COMPRESS TRUE [current_design]\n")


def build_script(platform: Platform, digest: str) -> str:
    """Return the script that builds the bitstream: ``vivado -mode batch -source build.tcl``.

    `digest` stands for the sources that it is written with; the script hands it on to its result.
    """
    board = BOARDS[platform.name]
    text = _SCRIPT
    for name, value in {
        "PLATFORM": platform.name, "TITLE": board.title, "PART": platform.part,
        "BOARD_PART": board.board_part, "CONNECTIONS": board.connections,
        "MEANT": board.vivado, "OLDEST": OLDEST_VIVADO, "DESIGN": DESIGN,
        "NAME": bitstream_name(platform), "CLOCK": str(platform.config.board.clock_mhz),
        "RESULT": RESULT, "DIGEST": digest,
        "BLOCK_DESIGN": BLOCK_DESIGN, "CONSTRAINTS": CONSTRAINTS,
    }.items():
        text = text.replace(f"@{name}@", value)
    return text


_SCRIPT = """\
# Builds @NAME@.bit and @NAME@.hwh for @TITLE@.
#
#     vivado -mode batch -source build.tcl [-tclargs OPTION ...]
#
#     --board-part NAME   this board file instead of the only installed one like @BOARD_PART@
#     --board-repo DIR    look for board files in this directory as well
#     --no-board-files    the plain device: no settings of DDR and MIO, see docs/boards.md
#     --jobs NUMBER       runs side by side, 4 if not given
#     --project-only      stop when the project is made

set here [file dirname [file normalize [info script]]]
set use_board_files 1
set board_part {}
set board_repo {}
set jobs 4
set project_only 0
if {![info exists argv]} {
    set argv {}
}
for {set index 0} {$index < [llength $argv]} {incr index} {
    set option [lindex $argv $index]
    switch -- $option {
        --board-part { incr index; set board_part [lindex $argv $index] }
        --board-repo { incr index; set board_repo [lindex $argv $index] }
        --no-board-files { set use_board_files 0 }
        --jobs { incr index; set jobs [lindex $argv $index] }
        --project-only { set project_only 1 }
        default { error "unknown option $option" }
    }
}

set tool_version [version -short]
if {[package vcompare [regsub {[^0-9.].*} $tool_version {}] @OLDEST@] < 0} {
    error "Vivado $tool_version is older than @OLDEST@"
}
puts "pliant: Vivado $tool_version; @MEANT@ is meant for this board"

# What an earlier run left must not be taken for the result of this one.
foreach name {@NAME@.bit @NAME@.hwh @RESULT@} {
    file delete -force [file join $here $name]
}

# Project
if {$board_repo ne {}} {
    set_param board.repoPaths [list [file normalize $board_repo]]
}
create_project @DESIGN@ [file join $here vivado] -part @PART@ -force
if {$use_board_files} {
    if {$board_part eq {}} {
        set found [get_board_parts -quiet -latest_file_version @BOARD_PART@]
        if {[llength $found] != 1} {
            error "board files like @BOARD_PART@: found {$found}; install one (Tools, Vivado Store)\
                or choose with -tclargs --board-part NAME or --no-board-files"
        }
        set board_part [lindex $found 0]
    }
    set_property board_part $board_part [current_project]
    set connections {@CONNECTIONS@}
    if {$connections ne {}} {
        set_property board_connections $connections [current_project]
    }
}
set_property ip_repo_paths [list [file join $here ip]] [current_project]
update_ip_catalog

# Block design, and Verilog around it
source [file join $here @BLOCK_DESIGN@]
set wrapper [make_wrapper -files [get_files @DESIGN@.bd] -top]
add_files -norecurse $wrapper
set_property top @DESIGN@_wrapper [current_fileset]
add_files -fileset constrs_1 -norecurse [file join $here @CONSTRAINTS@]
update_compile_order -fileset sources_1
if {$project_only} {
    puts "pliant: the project is in [file join $here vivado]"
    return
}

# Runs
proc finish {run} {
    wait_on_run $run
    if {[get_property PROGRESS [get_runs $run]] ne "100%"} {
        error "$run failed: [get_property STATUS [get_runs $run]]"
    }
}
launch_runs synth_1 -jobs $jobs
finish synth_1
set_property strategy Performance_ExplorePostRoutePhysOpt [get_runs impl_1]
launch_runs impl_1 -to_step write_bitstream -jobs $jobs
finish impl_1

# Reports; a design that misses its clock is no result
open_run impl_1
report_timing_summary -file [file join $here timing.rpt]
report_utilization -file [file join $here utilization.rpt]
report_utilization -hierarchical -file [file join $here utilization_by_unit.rpt]
set setup [get_property STATS.WNS [get_runs impl_1]]
set hold [get_property STATS.WHS [get_runs impl_1]]
puts "pliant: @CLOCK@ MHz asked for, worst slack $setup ns (setup), $hold ns (hold)"
if {$setup < 0 || $hold < 0} {
    error "timing is not met, see [file join $here timing.rpt]; no bitstream is kept"
}

set vivado [file join $here vivado]
file copy -force [file join $vivado @DESIGN@.runs impl_1 @DESIGN@_wrapper.bit] \\
    [file join $here @NAME@.bit]
file copy -force \\
    [file join $vivado @DESIGN@.gen sources_1 bd @DESIGN@ hw_handoff @DESIGN@.hwh] \\
    [file join $here @NAME@.hwh]
set result [open [file join $here @RESULT@] w]
puts $result "{\\"tool\\": \\"Vivado\\", \\"tool_version\\": \\"$tool_version\\","
puts $result " \\"setup_slack_ns\\": $setup, \\"hold_slack_ns\\": $hold,"
puts $result " \\"sources\\": \\"@DIGEST@\\"}"
close $result
puts "pliant: @NAME@.bit and @NAME@.hwh are in $here; pliant build --board @PLATFORM@ --record"
"""
