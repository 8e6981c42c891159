"""The programs of the cluster: scheduler, node, the template process and the servers forked from it."""
