FROM base AS deps
ARG MIRROR
RUN install
FROM deps AS test
RUN test
FROM deps AS build
ENV MIRROR=none
RUN build
FROM scratch AS final
COPY --from=build /out/app /app
COPY --from=2 --chmod=0644 /out/app.conf /etc/
COPY --from=certs:latest /etc/ssl/certs /etc/ssl/certs/
MAINTAINER somebody
ENTRYPOINT ["/app"]
