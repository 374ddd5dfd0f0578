# The words of check_words.sh; needs code.awk before it.

BEGIN {
    # Unsafe, not reentrant, or a second way around an answer that the house has already given.
    ban("sprintf vsprintf strcpy strcat strncpy strncat strtok gets atoi atol atoll sscanf alloca")
    ban("localtime gmtime ctime asctime system popen setjmp longjmp rand srand tmpnam mktemp")
    memory = " malloc calloc realloc reallocarray free strdup strndup asprintf vasprintf "
    # A library's words, and the files that may say them.
    guest("uv_", "^src/(loop|net)/")
    guest("UV_", "^src/(loop|net)/")
    guest("mdb_", "^src/queue/(store|raw|verify|compact|import)[^/]*$")
    guest("MDB_", "^src/queue/(store|raw|verify|compact|import)[^/]*$")
    guest("mbedtls_", "^src/(net/tls[^/]*|sign/[a-z]*_mbedtls\\.c)$")
    guest("MBEDTLS_", "^src/(net/tls[^/]*|sign/[a-z]*_mbedtls\\.c)$")
    guest("psa_", "^src/net/tls[^/]*$")
    guest("dns_", "^src/net/(resolver|dns)[^/]*$")
    guest("crypto_", "^src/(base/secure\\.[ch]|sign/ed25519\\.c)$")
    guest("sha256_", "^src/sign/digest\\.c$")
    guest("EVP_", "^src/sign/[a-z]*_openssl\\.c$")
    guest("BIO_", "^src/sign/[a-z]*_openssl\\.c$")
    guest("PEM_read_", "^src/sign/[a-z]*_openssl\\.c$")
    guest("PEM_write_", "^src/sign/[a-z]*_openssl\\.c$")
    guest("sodium_", "^src/base/secure\\.[ch]$")
    guest("randombytes", "^src/base/secure\\.[ch]$")
    guest("MHD_", "^src/admin/")
    guest("json_", "^src/(admin/|cli/|queue/transfer\\.c$)")
    guest("idn2_", "^src/mail/")
    guest("IDN2_", "^src/mail/")
}

function ban(list,    word, i) {
    split(list, word, " ")
    for (i = 1; i in word; i++)
        banned[word[i]] = 1
}

function guest(prefix, files) {
    home[prefix] = files
}

function complain(word, text) {
    if ((FILENAME, word) in allowed) {
        used[FILENAME, word] = 1
        return
    }
    print FILENAME ":" FNR ": " text
    broken = 1
}

function check_word(word, before, after,    prefix, member, called) {
    # A field or a local name that has a library's prefix is ours: x->dns_servers, dns_wait = 1.
    member = (before ~ /(\.|->)[ \t]*$/)
    called = (after ~ /^[ \t]*\(/)
    if (called && !member && (word in banned))
        complain(word, word "() is banned")
    if (called && !member && index(memory, " " word " ") && FILENAME !~ /^src\/base\//)
        complain(word, word "() outside of base")
    if (member)
        return
    for (prefix in home) {
        if (index(word, prefix) != 1 || FILENAME ~ home[prefix])
            continue
        # dns_ is also how modules and options of ours are called. udns shows in its calls, and
        # the room net alone can include it.
        if (prefix == "dns_" && (!called || FILENAME !~ /^src\/net\//))
            continue
        complain(word, word " belongs to the files " home[prefix])
    }
}

function check_line(    rest, word, before, done) {
    rest = code
    done = ""
    while (match(rest, /[A-Za-z_][A-Za-z_0-9]*/)) {
        word = substr(rest, RSTART, RLENGTH)
        before = done substr(rest, 1, RSTART - 1)
        rest = substr(rest, RSTART + RLENGTH)
        if (before !~ /[0-9]$/) # 10u, 0x1f: no words
            check_word(word, before, rest)
        done = before word
    }
}

FILENAME ~ /words_allowed\.txt$/ {
    sub(/#.*/, "")
    if ($1 != "" && $2 != "") {
        allowed[$1, $2] = 1
        if ($3 == "") {
            print FILENAME ":" FNR ": an exception needs its reason"
            broken = 1
        }
    }
    next
}

FNR == 1 {
    reset_code()
    in_macro = 0
}

{
    was_comment = inside_comment
    read_code($0)
    if (code ~ /^[ \t]*#[ \t]*include/) {
        in_macro = 0
        next
    }
    if (!in_macro && code ~ /^[ \t]*#[ \t]*define/)
        in_macro = 1
    if (in_macro && match(" " code " ", /[^A-Za-z_0-9](return|goto)[^A-Za-z_0-9]/))
        complain("macro", "a macro that returns or jumps hides it from its reader")
    in_macro = in_macro && code ~ /\\[ \t]*$/
    # Lines end with CR LF on the wire only, and the wire is known to the framing alone.
    if (literal ~ /\\r|\\x0[dD]|\\015/ && FILENAME !~ /^src\/(smtp\/framing\.c|mail\/)/)
        complain("\\r", "a carriage return as a protocol byte")
    if (code != "")
        check_line()
}

END {
    exit broken
}
