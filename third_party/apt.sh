# Sourced by the other scripts here: a private apt in the folder $1, with its own lists and
# archives. It reads the machine's sources and its list of what is installed, and changes nothing
# of the machine; so it works for an ordinary user, and beside another apt that runs.
#
#   apt_private FOLDER           sets it up, with the machine's own sources, and fetches the lists
#   apt_private_sources FOLDER SUITE
#                                and then: source packages of SUITE instead, from the same mirror

apt_private_settings() {
    cat <<A
Dir::State::lists "$1/lists";
Dir::Cache::archives "$1/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "true";
A
}

apt_private() {
    mkdir -p "$1/lists/partial" "$1/archives/partial"
    apt_private_settings "$1" >"$1/apt.conf"
    export APT_CONFIG=$1/apt.conf
    apt-get -qq update
}

apt_private_sources() {
    local folder=$1 suite=$2 keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    local main security
    # By what the signed release files call themselves: a mirror may have any address.
    main=$(apt_mirror_labelled Debian)
    security=$(apt_mirror_labelled Debian-Security)
    if [ -z "$main" ]; then
        echo "apt on this machine has no Debian mirror among its sources" >&2
        return 1
    fi
    mkdir -p "$folder/parts"
    {
        apt_source_entry "$main" "$suite" "$keyring"
        [ -z "$security" ] || apt_source_entry "$security" "$suite-security" "$keyring"
    } >"$folder/parts/$suite.sources"
    # The packages that are installed mean nothing for another suite.
    : >"$folder/status"
    {
        apt_private_settings "$folder"
        echo "Dir::Etc::sourcelist \"/dev/null\";"
        echo "Dir::Etc::sourceparts \"$folder/parts\";"
        echo "Dir::State::status \"$folder/status\";"
    } >"$folder/apt.conf"
    apt-get -qq update
}

apt_mirror_labelled() {
    apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' |
        awk -v label="$1" '$1 == label && !found { print $2; found = 1 }'
}

apt_source_entry() {
    printf 'Types: deb-src\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n\n' "$@"
}
