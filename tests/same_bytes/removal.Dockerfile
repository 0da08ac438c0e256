# What is gone, and what came in its place.
FROM nodes
RUN rm /bin/vi /etc/group && rm -r /var/www && mkdir -p /a/b/c /a/d && echo 1 >/a/b/1 && echo 2 >/a/b/c/2 && echo 3 >/a/d/3
RUN rm -r /a/b && mkdir /a/b && echo new >/a/b/new
RUN rm -r /a && mkdir -p /a/d && echo 3 >/a/d/3
RUN rm -r /a/d && echo file >/a/d && rm /nodes/file && mkdir /nodes/file && rm /nodes/link && echo file >/nodes/link
RUN rm /a/d && mkdir /a/d && rmdir /nodes/file && ln -s nowhere /nodes/file && rm /nodes/link && mkfifo /nodes/link
RUN mkdir /short && echo x >/short/lived && rm -r /short && rm -rf /home && mkdir /home && mkdir -m 700 /empty /empty/er
RUN mv /var/spool /var/pool && mv /nodes/dir /dir && mv /dir /nodes/dir
RUN rm -r /nodes/opaque && mkdir /nodes/opaque
