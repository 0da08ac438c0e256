# Device nodes and fifos: of the base image (/nodes), and made by a step.
FROM nodes
RUN mknod /null c 1 3 && mknod -m 640 /zero c 1 5 && mknod /loop b 7 1 && mkfifo /fifo && chmod 600 /fifo && mknod /node c 1 7 && chown 3:4 /node && chmod 664 /node
RUN mkdir /moved && mv /nodes/moved /moved/ && rm /nodes/removed && touch /nodes/beside
RUN mknod /once c 10 229 && rm /once && mknod /twice c 1 3 && rm /twice && echo file >/twice
RUN rm -r /nodes/tree
COPY --from=nodes /nodes/kept /copied-node
COPY --from=nodes /nodes/ /copied-nodes/
