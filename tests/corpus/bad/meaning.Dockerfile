ARG WHICH
FROM base AS first
STOPSIGNAL SIGNOTHING
EXPOSE 99999 80/icmp
COPY --chmod=999 a b
ENV A="${NEEDED:?pass it with --build-arg}"
USER "app
	WORKDIR ${A
VOLUME $NOTHING
COPY https://example.org/x /x
