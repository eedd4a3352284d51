package gateway

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Access says which users may, by their usernames. The zero Access is
// everybody, as in Moodle's table mnet_sso_access_control, where a user
// without an entry may. A user who is both allowed and denied may not.
type Access struct {
	Allow *UserList // nobody else may; nil for everybody
	Deny  *UserList // may not; nil for nobody
}

// Allows reports whether the user may.
func (a Access) Allows(username string) bool {
	return !a.Deny.has(username) && (a.Allow == nil || a.Allow.has(username))
}

// MayRoam reports whether a local user may leave for peer: the site and the
// peer's own entry must both allow it.
func MayRoam(site Access, peer *Peer, username string) bool {
	return site.Allows(username) && peer.Roam.Allows(username)
}

// UserList is a list of usernames, compared in lower case, in which Moodle keeps
// them. One * in an entry stands for any text, also for none.
type UserList struct {
	exact    []string // sorted
	patterns []string
}

const maxEntry = 100 // characters of Moodle's user.username column

// NewUserList returns the list with these entries.
func NewUserList(entries ...string) (*UserList, error) {
	u := &UserList{}
	for _, entry := range entries {
		if err := checkEntry(entry); err != nil {
			return nil, err
		}
		entry = strings.ToLower(entry)
		if strings.Contains(entry, "*") {
			u.patterns = append(u.patterns, entry)
		} else {
			u.exact = append(u.exact, entry)
		}
	}
	slices.Sort(u.exact)
	u.exact = slices.Compact(u.exact)
	return u, nil
}

// checkEntry returns an error if s cannot be an entry of a list.
func checkEntry(s string) error {
	switch {
	case s == "":
		return errors.New("a username is empty")
	case utf8.RuneCountInString(s) > maxEntry:
		return fmt.Errorf("a username is longer than %d characters", maxEntry)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(c rune) bool { return unicode.IsControl(c) || unicode.IsSpace(c) || c == ',' || c == ';' }):
		// Moodle could be told to let some of them in. They are more often
		// two names, of which none would be found.
		return fmt.Errorf("%q is not one username", s)
	case strings.Count(s, "*") > 1:
		return fmt.Errorf("%q has more than one *", s)
	}
	return nil
}

// Entries returns the entries: names in order, then patterns.
func (u *UserList) Entries() []string {
	return append(append([]string{}, u.exact...), u.patterns...)
}

func (u *UserList) has(username string) bool {
	if u == nil {
		return false
	}
	username = strings.ToLower(username)
	if _, found := slices.BinarySearch(u.exact, username); found {
		return true
	}
	return slices.ContainsFunc(u.patterns, func(pattern string) bool {
		before, after, _ := strings.Cut(pattern, "*")
		rest, ok := strings.CutPrefix(username, before)
		return ok && strings.HasSuffix(rest, after)
	})
}
