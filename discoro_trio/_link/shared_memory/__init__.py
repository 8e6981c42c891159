"""Large buffers between processes of one machine, through memory that both map."""
