# Makes, from the header without comments, a C program that prints the offset and size of every field.
BEGIN { print "#include <stddef.h>\n#include <stdio.h>\n#include <synlock.h>\nint main(void) {" }
/^typedef struct \{/ { inside = 1; count = 0; next }
inside && /^}/ {
    name = $2
    sub(";", "", name)
    printf "    printf(\"%s %%zu\\n\", sizeof(%s));\n", name, name
    for (i = 0; i < count; i++)
        printf "    printf(\"%s.%s %%zu %%zu\\n\", offsetof(%s, %s), sizeof(((%s *)0)->%s));\n", name, field[i], name, field[i], name, field[i]
    inside = 0
    next
}
inside { text = $NF; gsub(/[*;]/, "", text); field[count++] = text }
/^ *SYNLOCK_[A-Z_]+ = / { value = $3; sub(",", "", value); printf "    puts(\"%s %s\");\n", $1, value }
END { print "    return 0;\n}" }
