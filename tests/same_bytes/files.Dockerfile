# Modes, times, sizes, attributes.
FROM nodes
COPY one /one
# Older than SOURCE_DATE_EPOCH, so it stays as it is.
RUN touch -t 202001020304 /one /etc && touch -h -t 202001020304 /bin/sh && touch -t 199901020304.05 /new
RUN touch -t 202001020304 /one
RUN touch /one && chmod 4755 /one && chmod 1777 /etc && chmod 2755 /var && chmod 0 /etc/shadow && chmod 755 /one && chmod 4755 /one
RUN cat /etc/passwd >/copy && cat /copy >/etc/passwd && chmod 600 /etc/group && chmod 644 /etc/group
RUN truncate -s 10M /sparse && echo end >>/sparse && dd if=/bin/busybox of=/holes bs=4k seek=300 count=2 2>/dev/null
RUN yes coracle | head -c 5000000 >/big && echo x | dd of=/big bs=1 seek=2500000 conv=notrunc 2>/dev/null
RUN : >/empty && mkdir -m 1777 /sticky && mkdir -m 2755 /group && mkdir -m 3777 /both && mkdir -m 0 /closed && echo x >/closed/in
RUN touch "/ spaces " '/"quotes"' '/back\slash' "$(printf '/tab\tnew\nline')" "$(printf '/\303\244\342\202\254')" "$(printf '/\377\376')" \
 && touch "/$(printf 'l%.0s' $(seq 255))" && ln -s "$(printf 't%.0s' $(seq 500))" /long
RUN d=/deep && for i in $(seq 40); do d=$d/$(printf 'd%.0s' $(seq 20)); done && mkdir -p "$d" && echo x >"$d/file"
# The attributes and capabilities of the base stay when a step changes something else.
RUN chmod 700 /nodes/attributes && echo more >>/nodes/attributes && touch /nodes/capable && cp -a /nodes/file /nodes/file2
RUN umask 077 && echo x >/private && mkdir /privates && umask 0 && echo x >/public && mkdir /publics
