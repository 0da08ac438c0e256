FROM onbuild
RUN make
