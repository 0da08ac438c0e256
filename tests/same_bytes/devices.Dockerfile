# Device nodes and fifos: of the base image (/nodes), and made by a step.
FROM nodes
RUN mknod /null c 1 3 && mknod -m 640 /zero c 1 5 && mknod /loop b 7 1 && mkfifo /fifo && chmod 600 /fifo && mknod /node c 1 7 && chown 3:4 /node && chmod 664 /node
RUN mkdir /moved && mv /nodes/moved /moved/ && rm /nodes/removed && touch /nodes/beside
RUN mknod /once c 10 229 && rm /once && mknod /twice c 1 3 && rm /twice && echo file >/twice
RUN rm -r /nodes/tree
COPY --from=nodes /nodes/kept /copied-node
COPY --from=nodes /nodes/ /copied-nodes/
RUN mkdir -p /jail/dev && mknod -m 666 /jail/dev/null c 1 3 && mknod -m 444 /jail/dev/urandom c 1 9
RUN cp -a /jail /jail2 && tar -cf - jail | tar -C /jail2 -xf - && cp -a /dev/zero /jail2/zero
RUN [ -c /jail2/jail/dev/null ] && [ ! -f /jail/dev/null ] && echo x >/jail/dev/null && [ -z "$(cat /jail2/dev/null)" ]
RUN test -c /jail/dev/null || mknod /jail/dev/null c 1 3; ls -l /jail/dev | cut -c1-10 >/listed
