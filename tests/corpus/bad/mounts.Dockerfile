FROM base AS a
RUN --mount=type=cahce,target=/c make
RUN --mount=type=cache,target=/c,sharing=lock make
RUN --mount=type=secret make
RUN --mount=type=secret,id=a,from=b make
RUN --mount=target=/a,tagret=/b make
RUN --mount=target=/a,target=/b make
RUN --mount=target=/ make
RUN --mount=target make
RUN --mount=type=tmpfs,target=/t,size=big make
RUN --mount=type=cache,required,target=/c make
RUN --mount=type=cache,source=/s,target=/c make
