package gateway

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// MailHomes says at which home the people of mail addresses have their accounts.
// Its entries are addresses, domains, and all domains below one; the closest one
// counts, whatever their order. The zero MailHomes knows nobody.
type MailHomes struct {
	byEntry map[string]*Peer
	homes   []MailHome
}

// MailHome is a home and whose it is, as entries in their one spelling.
type MailHome struct {
	Home    *Peer    // nil for the site itself
	Entries []string // ada@example.edu, example.edu, *.example.edu
}

// Bounds of mail addresses (RFC 5321, section 4.5.3.1).
const (
	maxLocalPart  = 64
	maxMailDomain = 255
)

// Add gives the people of an entry to home, or to the site itself if that is nil.
// It refuses what is no entry and what another one already says.
func (m *MailHomes) Add(home *Peer, entry string) error {
	entry, err := parseMailEntry(entry)
	if err != nil {
		return err
	}
	if other, taken := m.byEntry[entry]; taken {
		return fmt.Errorf("%s is given twice, to %s and %s", entry, mailHomeName(other), mailHomeName(home))
	}
	if m.byEntry == nil {
		m.byEntry = map[string]*Peer{}
	}
	m.byEntry[entry] = home
	if n := len(m.homes); n == 0 || m.homes[n-1].Home != home {
		m.homes = append(m.homes, MailHome{Home: home})
	}
	last := &m.homes[len(m.homes)-1]
	last.Entries = append(last.Entries, entry)
	return nil
}

func mailHomeName(home *Peer) string {
	if home == nil {
		return "the site itself"
	}
	return home.Wwwroot.String()
}

// Homes returns the entries in the order in which they were added.
func (m *MailHomes) Homes() []MailHome { return m.homes }

// Home returns the home of who has an address, nil for the site itself, and
// whether any entry says so. Addresses are compared without regard to case, which no mail server that
// learners have gives a meaning to, and domains as DNS has them.
func (m *MailHomes) Home(address string) (home *Peer, said bool) {
	local, domain, err := parseMailAddress(address)
	if err != nil || len(m.byEntry) == 0 {
		return nil, false
	}
	if home, said = m.byEntry[local+"@"+domain]; said {
		return home, true
	}
	if home, said = m.byEntry[domain]; said {
		return home, true
	}
	for {
		_, rest, ok := strings.Cut(domain, ".")
		if !ok {
			return nil, false
		}
		if home, said = m.byEntry["*."+rest]; said {
			return home, true
		}
		domain = rest
	}
}

// MailDomain returns a mail address in its one spelling, as MailHomes compares
// them, and its domain; or false for what is no address.
func MailDomain(address string) (spelled, domain string, ok bool) {
	local, domain, err := parseMailAddress(address)
	return local + "@" + domain, domain, err == nil
}

// parseMailEntry returns the one spelling of an entry: lower case, the domain in
// ASCII.
func parseMailEntry(entry string) (string, error) {
	if strings.ContainsFunc(entry, unicode.IsSpace) { // two entries, more likely than a quoted one
		return "", fmt.Errorf("%q is not one mail address or domain", entry)
	}
	if strings.Contains(entry, "@") {
		local, domain, err := parseMailAddress(entry)
		return local + "@" + domain, err
	}
	domain, below := strings.CutPrefix(entry, "*.")
	domain, err := parseMailDomain(domain)
	if below {
		domain = "*." + domain
	}
	return domain, err
}

func parseMailAddress(address string) (local, domain string, err error) {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return "", "", fmt.Errorf("%q is not a mail address", address)
	}
	local = strings.ToLower(address[:at])
	if local == "" || len(local) > maxLocalPart || !utf8.ValidString(local) ||
		strings.ContainsFunc(local, unicode.IsControl) {
		return "", "", fmt.Errorf("%q is not a mail address", address)
	}
	domain, err = parseMailDomain(address[at+1:])
	return local, domain, err
}

func parseMailDomain(name string) (string, error) {
	domain, err := idna.Lookup.ToASCII(strings.ToLower(name))
	if err != nil {
		return "", fmt.Errorf("%q is not the domain of a mail address", name)
	}
	if len(domain) > maxMailDomain || domain == "" {
		return "", errors.New("the domain of a mail address is empty or too long")
	}
	for label := range strings.SplitSeq(domain, ".") {
		if err := checkLabel(label); err != nil {
			return "", fmt.Errorf("%q is not the domain of a mail address: %w", name, err)
		}
	}
	return domain, nil
}
