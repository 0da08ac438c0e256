# Several names of one file, of which some lie below.
FROM nodes
RUN mkdir /l && echo one >/l/a && ln /l/a /l/b && ln /l/b /l/c && ln /etc/passwd /l/passwd && ln -s a /l/s && ln /l/s /l/t
# A write through one name of a file of the layer below.
RUN echo two >>/l/b
RUN chmod 600 /l/a
RUN rm /l/c
RUN ln /l/a /l/d && echo three >/l/d
# Each in a step of its own: within one step a tree in place shows a change through all names (docs/adr/0007-working-trees.md).
RUN ln /nodes/first /nodes/third
RUN echo more >>/nodes/second
RUN chown 5:6 /nodes/first
RUN mv /l/a /l/z && ln -f /l/z /l/b
# The owner of one of two names of a link, and of a fifo.
RUN ln -s x /l/n1 && ln /l/n1 /l/n2 && mkfifo /l/p1 && ln /l/p1 /l/p2
RUN chown -h 9:9 /l/n2 && chown 8:8 /l/p2
# A write through a name that is gone.
RUN exec 3>>/l/b && rm /l/b && echo gone >&3
# Folders that can not be renamed on an overlay.
RUN mv /l /m && mkdir /l && mv /m /l/ && mv /l/m/z /l/
