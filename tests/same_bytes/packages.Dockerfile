# Packages whose scripts are demanding about users and files.
FROM debian:bookworm-slim
# Of users that are made: the day is in /etc/shadow.
ENV DEBIAN_FRONTEND=noninteractive SOURCE_DATE_EPOCH=1700000000
# What is removed here differs between two builds in the same place too, with any builder:
# lists, logs: what the archive has, and dates; aux-cache: inode numbers and times; aliases.db: a random id;
# snakeoil: a certificate with a new key, for the host name, and a link with its hash. A chroot cannot have a host name of its
# own or tell of the network (/proc/net), so what packages make of it is replaced: main.cf, mailname, what debconf remembers.
RUN apt-get update \
 && apt-get install -y --no-install-recommends attr iputils-ping libcap2-bin nginx-light openssh-client postfix sudo \
 && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log /var/log/alternatives.log /var/cache/ldconfig/aux-cache \
    /etc/aliases.db /etc/ssl/private/ssl-cert-snakeoil.key /var/cache/debconf/config.dat* \
 && find /etc/ssl/certs -lname ssl-cert-snakeoil.pem -delete && rm /etc/ssl/certs/ssl-cert-snakeoil.pem \
 && echo example.org >/etc/mailname && postconf -e myhostname=example.org mydestination=localhost inet_protocols=all
RUN useradd -m -u 1000 -s /bin/sh app && groupadd -g 2000 team && usermod -aG team app \
 && install -o app -g team -m 2750 -d /srv/team && su app -c 'touch /srv/team/file; mkdir /srv/team/dir'
RUN cp /bin/true /capable && setcap cap_net_raw,cap_net_admin+ep /capable && getcap /usr/bin/ping >/ping \
 && cp -a /capable /copied && chown app /copied && setcap cap_chown=p /usr/bin/install && mv /capable /usr/local/bin/
RUN setfattr -n user.note -v text /srv/team/file && setfattr -n user.note -v text /srv && getfattr -dm - /srv/team/file >/attributes \
 && echo x >/plain && setfattr -n user.one -v 1 /plain && setfattr -n user.two -v 2 /plain && setfattr -x user.one /plain
RUN echo 'app ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/app && chmod 440 /etc/sudoers.d/app \
 && su app -c 'sudo -n touch /by-root && sudo -n -u www-data touch /tmp/by-www-data && sudo -n id >/tmp/id'
RUN postfix check && chown -R --from=app 77:78 /srv/team && nginx -t 2>/dev/null; rm -f /run/nginx.pid /var/log/nginx/*.log
USER app:team
WORKDIR /home/app/work
RUN echo mine >file && ln file hard && mkfifo fifo && chmod 4755 file && ssh -V 2>version && tar -cf tar file && rm tar
