# Users, groups, and files that belong to them.
FROM busybox
COPY --chown=33:44 one /copied
RUN echo 'app:x:1000:1000::/home/app:/bin/sh' >>/etc/passwd && echo 'app:*:::::::' >>/etc/shadow \
 && echo 'app:x:1000:' >>/etc/group && echo 'team:x:2000:app' >>/etc/group && mkdir /home/app && chown app:app /home/app
RUN su app -c 'cd && echo mine >file && mkdir dir && ln -s file link && mkfifo fifo && ln file hard && chmod 2750 dir'
RUN mkdir /shared && chown 0:2000 /shared && chmod 2775 /shared && su app -c 'echo x >/shared/file && mkdir /shared/dir'
RUN mkdir -p /t/a/b && echo x >/t/a/b/c && ln -s c /t/a/b/l && mkfifo /t/p \
 && chown -R 7:8 /t/a && chown -h 9:9 /t/a/b/l && chown 5 /t/p && chgrp 65534 /t
RUN cp -a /t/a /t/copy && mv /t/copy /t/moved && tar -cf - -C /t a | tar -xpf - -C /shared && mkdir /t/i && chown 7:8 /t/i && chmod 2711 /t/i
# chown takes setuid and setgid away.
RUN echo x >/prog && chmod 6755 /prog && chown app /prog && echo y >/prog2 && chown app /prog2 && chmod 6755 /prog2
# So does writing, whoever writes.
RUN echo x >/written && chmod 6755 /written && echo y >>/written && echo x >/emptied && chmod 4711 /emptied && : >/emptied \
 && su app -c 'cd && echo x >mine && chmod 4755 mine && echo y >>mine'
# A script without a first line that says what it is: the shell executes itself by /proc/self/exe.
RUN echo 'echo ran >/ran' >/script && chmod 755 /script && /script
# Links and fifos in a cache stay whose they are.
RUN --mount=type=cache,target=/c mkdir -p /c/d && ln -sf x /c/d/l && chown -h 5:6 /c/d/l && rm -f /c/p && mkfifo /c/p && chown 7 /c/p
RUN --mount=type=cache,target=/c cp -a /c /from-cache && chown -h 0:0 /c/d/l
RUN --mount=type=cache,target=/c cp -a /c /from-cache-again
# What lies below, changed in nothing but its owner.
RUN chown 1000:2000 /etc/group /copied /tmp /bin/vi && chown -h 3:4 /bin/sh
USER app
WORKDIR /home/app/deep/er
RUN id >id && touch touched
RUN echo out >/dev/stdout && echo err | tee /dev/stderr >tee
USER app:team
RUN touch by-team && id >id
USER 12:13
RUN id >/tmp/id
USER root
RUN for i in 1 2 3 4 5; do touch /again && chown 77 /again && rm /again && touch /again; done && chown app /gone 2>/dev/null || true
# A working directory that is gone is made for the step, and belongs to its user.
USER root
WORKDIR /gone/dir
RUN rmdir /gone/dir && rmdir /gone
USER 12:13
RUN pwd >/tmp/pwd && stat -c %u:%g:%a . .. >/tmp/owners && touch in-it
# One that the user may not enter.
USER root
WORKDIR /closed
RUN chmod 700 .
USER app
RUN pwd >/tmp/closed
