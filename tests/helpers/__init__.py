"""Tests of what stands around layers: codes, frames of events, pools, read-outs, plots."""
