package idp

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"jumpgate/gateway"
)

// Claims says in which claim of an OpenID provider a field of the user is. A
// claim within another one is named with dots: address.locality. An empty name
// means that the provider does not know the field.
type Claims struct {
	Username  string
	FirstName string
	LastName  string
	Email     string
	City      string
	Country   string
	Lang      string
	Timezone  string
}

// complete reports whether there is a claim for everything that peers need.
func (c Claims) complete(said claims) bool {
	for _, name := range []string{c.Username, c.FirstName, c.LastName, c.Email} {
		if said.text(name) == "" {
			return false
		}
	}
	return true
}

// text returns the text of a claim without blanks around it; "" if there is
// none, or it is none.
func (c claims) text(name string) string { return strings.TrimSpace(c.exact(name)) }

// exact returns the text of a claim as it is; "" if there is none, or it is
// none.
func (c claims) exact(name string) string {
	value, ok := c[name]
	if outer, inner, dotted := strings.Cut(name, "."); !ok && dotted {
		var within claims
		if json.Unmarshal(c[outer], &within) != nil {
			return ""
		}
		return within.exact(inner)
	}
	var text string
	if !ok || json.Unmarshal(value, &text) != nil {
		return ""
	}
	return text
}

// says reports whether a claim is a truth value of this kind. Some providers
// write it as text.
func (c claims) says(name, truth string) bool {
	return strings.Trim(string(c[name]), `"`) == truth
}

// The sizes of Moodle's columns, in characters.
const (
	maxName = 100
	maxCity = 120
)

var (
	country  = regexp.MustCompile(`^[A-Z]{2}$`)
	language = regexp.MustCompile(`^[a-z]{2,3}(_[a-z]{2})?$`)
	timezone = regexp.MustCompile(`^[A-Za-z0-9_+/-]{1,100}$`)
)

// user makes a Moodle user of what the provider says. The rule is that which
// keeps them from jumping; lacking names what a peer would miss, for a page,
// and the error says for an administrator what is wrong.
func (o *OpenID) user(said claims) (u gateway.User, rule gateway.Rule, lacking []string, err error) {
	account := said.exact(o.Claims.Username) // with a blank it is another one
	username, ok := o.Usernames.Of(account)
	if !ok {
		return u, gateway.RuleUserUsername, nil, fmt.Errorf("no username follows from the claim %s, %.200q", o.Claims.Username, account)
	}
	u = gateway.User{
		Username:  username,
		FirstName: said.line(o.Claims.FirstName, maxName),
		LastName:  said.line(o.Claims.LastName, maxName),
		Email:     said.line(o.Claims.Email, maxName),
		City:      said.line(o.Claims.City, maxCity),
		Country:   said.matching(o.Claims.Country, country),
		Lang:      said.lang(o.Claims.Lang),
		Timezone:  said.matching(o.Claims.Timezone, timezone),
	}
	var missing []string
	for _, needed := range []struct{ words, value, claim string }{
		{"first name", u.FirstName, o.Claims.FirstName},
		{"last name", u.LastName, o.Claims.LastName},
		{"mail address", u.Email, o.Claims.Email},
	} {
		if needed.value == "" {
			lacking, missing = append(lacking, needed.words), append(missing, needed.claim)
		}
	}
	switch {
	case lacking != nil:
		return u, gateway.RuleUserIncomplete, lacking, fmt.Errorf("no good claim %s", strings.Join(missing, ", "))
	// Peers believe what we tell them, so we do not tell them what the
	// provider itself does not believe.
	case o.Claims.Email == "email" && said.says("email_verified", "false"):
		return u, gateway.RuleUserIncomplete, []string{"a mail address that was confirmed"}, fmt.Errorf("the claim email_verified is false")
	}
	return u, gateway.RuleOK, nil, nil
}

// line returns a claim that is one line of at most limit characters, or "".
func (c claims) line(name string, limit int) string {
	text := c.text(name)
	if utf8.RuneCountInString(text) > limit || strings.ContainsFunc(text, unicode.IsControl) {
		return ""
	}
	return text
}

func (c claims) matching(name string, form *regexp.Regexp) string {
	if text := c.text(name); form.MatchString(text) {
		return text
	}
	return ""
}

// lang returns the name that Moodle's language pack has for a locale such as
// de-AT: that of the language, but for the few that Moodle tells apart. A peer
// without that pack takes its own language.
func (c claims) lang(name string) string {
	text := c.text(name)
	pack := strings.ReplaceAll(strings.ToLower(text), "-", "_")
	if !language.MatchString(pack) {
		return ""
	}
	switch pack {
	case "pt_br", "zh_cn", "zh_tw", "en_us", "fr_ca":
		return pack
	}
	pack, _, _ = strings.Cut(pack, "_")
	return pack
}
