"""Whether all that a deploy needs is there, here and on the hosts, and how to mend what is not."""
