package gateway

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// AccountNames says which username learners of other homes have at a site
// whose Moodle has no MNet, and so keeps all usernames in one list: the
// account that Moodle creates for them, and what our OpenID provider calls
// them. The zero AccountNames is the template PlainNames.
//
// No two learners get one name, as long as Collisions finds nothing among the
// homes: the name ends in what belongs to its home alone, and what is before
// that can be decoded.
//
// Names consist of small letters and digits of ASCII and of . _ - @, whatever
// the Moodle is set to allow (PARAM_USERNAME, source). Every other character of
// a username is written as "_-", its code point in small hexadecimal digits,
// and "-": müller becomes m_-fc-ller. So is a "_" that stands before a "-", and
// a capital letter, which Moodle's usernames do not have but Mahara's may.
// Nothing is left that a database might take for something else: those of
// MySQL do not tell ü from u.
type AccountNames struct {
	before, after string // of the host
	host          bool   // the home's host is part of the name
}

// The templates of AccountNames that have a name.
const (
	DefaultNames = placeUsername + "@" + placeHost
	PlainNames   = "plain" // the username alone: for sites with exactly one home
)

const (
	placeUsername = "{username}"
	placeHost     = "{idp host}"
)

// maxName is the size of Moodle's column, in characters, which are bytes here.
const maxName = 100

// ParseAccountNames reads a template: PlainNames, or "{username}", characters
// that names may have, "{idp host}" and more such characters.
func ParseAccountNames(template string) (AccountNames, error) {
	if template == PlainNames {
		return AccountNames{}, nil
	}
	end, ok := strings.CutPrefix(template, placeUsername)
	n := AccountNames{host: true}
	var found bool
	if n.before, n.after, found = strings.Cut(end, placeHost); !ok || !found {
		return AccountNames{}, fmt.Errorf("%q does not begin with %s, with %s after it, and is not %s", template, placeUsername, placeHost, PlainNames)
	}
	if bad := strings.IndexFunc(n.before+n.after, unnameable); bad >= 0 {
		return AccountNames{}, fmt.Errorf("%q has a character that Moodle lets no username have", template)
	}
	return n, nil
}

// String returns the template.
func (n AccountNames) String() string {
	if !n.host {
		return PlainNames
	}
	return placeUsername + n.before + placeHost + n.after
}

// Of returns the name that a learner has here whom their home calls username.
// It fails if no username of Moodle can have such a name: if it is empty, too
// long, that of the guest account, or not text.
func (n AccountNames) Of(home Wwwroot, username string) (string, error) {
	switch {
	case username == "":
		return "", errors.New("the username is empty")
	case !utf8.ValidString(username) || strings.ContainsFunc(username, unicode.IsControl):
		return "", errors.New("the username is not text")
	case home.IsZero():
		return "", errors.New("the username is that of no home")
	}
	name := nameable(username) + n.suffix(home)
	switch {
	case len(name) > maxName:
		return "", fmt.Errorf("the name would be longer than %d characters", maxName)
	case name == "guest":
		return "", errors.New("the name would be that of Moodle's guest account")
	}
	return name, nil
}

// Username undoes Of: it returns what a home calls the learner who has this name
// here. It fails for what is no name of a learner of that home.
func (n AccountNames) Username(home Wwwroot, name string) (string, error) {
	var b strings.Builder
	rest, ok := strings.CutSuffix(name, n.suffix(home))
	for ok {
		before, number, found := strings.Cut(rest, "_-")
		if b.WriteString(before); !found {
			break
		}
		number, rest, ok = strings.Cut(number, "-")
		c, err := strconv.ParseInt(number, 16, 32)
		ok = ok && err == nil
		b.WriteRune(rune(c))
	}
	if ok { // most are another home's: those cost no more
		again, err := n.Of(home, b.String())
		ok = err == nil && again == name
	}
	if !ok {
		return "", errors.New("the name is not that of a learner of this home")
	}
	return b.String(), nil
}

// HomeOf returns the home among peers whose learner has this name here, and what
// that calls them. It is nil for a name of no such learner, and of more than one:
// if Collisions finds nothing, there is none of those.
func (n AccountNames) HomeOf(peers *Allowlist, name string) (home *Peer, username string) {
	for _, p := range peers.Peers() {
		theirs, err := n.Username(p.Wwwroot, name)
		switch {
		case err != nil || !p.Subscribes(ServiceSSOIDP): // nobody lands from there
		case home != nil:
			return nil, ""
		default:
			home, username = p, theirs
		}
	}
	return home, username
}

// Collisions returns the pairs among homes of which learners could get one name,
// in their order: the name of either home ends in what stands for the other.
// Homes must not be repeated.
func (n AccountNames) Collisions(homes ...Wwwroot) [][2]Wwwroot {
	var found [][2]Wwwroot
	owner := map[string]Wwwroot{} // by suffix
	for _, home := range homes {
		if other, taken := owner[n.suffix(home)]; taken {
			found = append(found, [2]Wwwroot{other, home})
			continue
		}
		owner[n.suffix(home)] = home
	}
	for _, home := range homes {
		suffix := n.suffix(home)
		for i := 1; i < len(suffix); i++ {
			if other, taken := owner[suffix[i:]]; taken {
				found = append(found, [2]Wwwroot{other, home})
			}
		}
	}
	return found
}

// suffix returns what ends the names of a home's learners. The port is part of
// it, the path is not.
func (n AccountNames) suffix(home Wwwroot) string {
	if !n.host {
		return ""
	}
	return n.before + nameable(home.Host()) + n.after
}

// nameable writes s with the characters of names alone, so that it can be read
// back: "_-" stands in the result exactly where a character is written as a
// number.
func nameable(s string) string {
	var b strings.Builder
	for i, c := range s {
		if unnameable(c) || c == '_' && strings.HasPrefix(s[i+1:], "-") {
			b.WriteString("_-" + strconv.FormatInt(int64(c), 16) + "-")
		} else {
			b.WriteRune(c)
		}
	}
	return b.String()
}

// unnameable reports whether names do not have the character.
func unnameable(c rune) bool {
	return (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("._-@", c)
}
