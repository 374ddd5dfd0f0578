/* Ids as people see them: 13 characters of base32 (65 bits for 64). */
#include "smtpd/mail/envelope.h"

static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";

enum { ID_LETTERS = ID_TEXT - 1, BITS = 5 };

void id_print(uint64_t id, char text[ID_TEXT])
{
    for (int i = ID_LETTERS - 1; i >= 0; i--) {
        text[i] = alphabet[id & 31];
        id >>= BITS;
    }
    text[ID_LETTERS] = '\0';
}

static int letter_value(char letter)
{
    if (letter >= 'a' && letter <= 'z')
        return letter - 'a';
    if (letter >= 'A' && letter <= 'Z')
        return letter - 'A';
    return letter >= '2' && letter <= '7' ? letter - '2' + 26 : -1;
}

bool id_parse(const char *text, size_t length, uint64_t *id)
{
    uint64_t value = 0;

    if (length != ID_LETTERS || letter_value(text[0]) > 15)
        return false;
    for (size_t i = 0; i < length; i++) {
        int letter = letter_value(text[i]);

        if (letter < 0)
            return false;
        value = value << BITS | (uint64_t)letter;
    }
    *id = value;
    return true;
}
