# syntax=docker/dockerfile:1
# A program is made in one stage and copied to another.
ARG SDK=8.0
FROM sdk:${SDK} AS construct
WORKDIR /web
COPY *.csproj ./
RUN dotnet restore
COPY . ./
ARG CONFIGURATION=Release
RUN dotnet publish -c $CONFIGURATION \
    # where the program goes
    -o site

FROM runtime:${SDK%.*}
LABEL org.opencontainers.image.title="demo web" org.opencontainers.image.version=$SDK
WORKDIR /srv
COPY --from=construct --chown=app:app /web/site ./
EXPOSE 8080 8443/tcp
USER app
ENTRYPOINT ["dotnet", "Demo.Web.dll"]
CMD ["--urls", "http://*:8080"]
