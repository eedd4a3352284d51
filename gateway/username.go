package gateway

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Usernames says which username an account of a login provider has in Moodle.
// No two accounts get the same unless their names differ only in whether
// letters of ASCII are capital, as in Moodle, where those are one: peers know a
// learner by the username alone, and whoever gets one lands as its owner. The
// zero Usernames takes accounts' names as they are.
type Usernames struct {
	// Strip is the end that every account's name has and no username, such
	// as @college.example, in lower case. Accounts without it are somebody
	// else's. Empty for none.
	Strip string

	listed map[string]string // username by account, in lower case
	owned  map[string]bool   // the usernames of listed
}

// maxUsername is the size of Moodle's column, in bytes to be safe.
const maxUsername = 100

// List gives an account a username that does not follow from its name. Nobody
// else gets that username then, whatever the name of their account.
func (u *Usernames) List(account, username string) error {
	account = lowerASCII(account)
	_, again := u.listed[account]
	switch {
	case account == "":
		return errors.New("the account has no name")
	case again:
		return fmt.Errorf("the account %q is listed twice", account)
	case u.owned[username]:
		return fmt.Errorf("the username %q is given to two accounts", username)
	}
	if err := checkUsername(username); err != nil {
		return err
	}
	if u.listed == nil {
		u.listed, u.owned = map[string]string{}, map[string]bool{}
	}
	u.listed[account], u.owned[username] = username, true
	return nil
}

// Of returns the username of an account, or false if it has none. Letters are
// made small, as Moodle does; but only those of ASCII, since others become the
// same as theirs. An account with other characters than Moodle lets usernames
// have by default needs List.
func (u *Usernames) Of(account string) (string, bool) {
	account = lowerASCII(account)
	if username, ok := u.listed[account]; ok {
		return username, true
	}
	username, ours := strings.CutSuffix(account, u.Strip)
	if !ours || u.owned[username] || !plainUsername(username) || checkUsername(username) != nil {
		return "", false
	}
	return username, true
}

// plainUsername reports whether s has only characters that Moodle lets a
// username have if nobody configured others (PARAM_USERNAME, source).
func plainUsername(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("-._@", c)
	})
}

// checkUsername says why no user of a Moodle can have this name.
func checkUsername(s string) error {
	switch {
	case s == "":
		return errors.New("the username is empty")
	case len(s) > maxUsername:
		return fmt.Errorf("the username is longer than %d bytes", maxUsername)
	case s == "guest":
		return errors.New("the username guest is that of Moodle's guest account")
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) || strings.TrimSpace(s) != s:
		return fmt.Errorf("the username %q has a character that no username has", s)
	case strings.ToLower(s) != s:
		return fmt.Errorf("the username %q has a capital letter: Moodle's have none", s)
	}
	return nil
}

func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
