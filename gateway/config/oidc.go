package config

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"jumpgate/gateway"
)

// OpenID says at which OpenID provider the learners have their accounts.
type OpenID struct {
	Issuer   string // as the provider spells it, to the last slash
	ClientID string

	ClientSecret     Secret // empty for a public client
	ClientSecretFile string // where it was read from, or
	ClientSecretEnv  string // the environment variable

	Scopes []string
	Claims Claims

	Usernames     *gateway.Usernames // of the accounts
	UsernamesFile string             // the file with those that are listed; empty for none

	// Session is how long a login there lets its browser jump without
	// another look at the provider.
	Session time.Duration
}

// Claims are the names of the claims that hold a user's fields; empty for one
// that the provider does not know.
type Claims struct {
	Username  string `yaml:"username"`
	FirstName string `yaml:"firstname"`
	LastName  string `yaml:"lastname"`
	Email     string `yaml:"email"`
	City      string `yaml:"city,omitempty"`
	Country   string `yaml:"country,omitempty"`
	Lang      string `yaml:"lang,omitempty"`
	Timezone  string `yaml:"timezone,omitempty"`
}

const (
	minSession = time.Minute
	maxSession = 24 * time.Hour // for as long an account that is gone may jump
)

// openID reads the provider of the identity source oidc.
func (o object) openID() *OpenID {
	claims := o.sub("claims", fieldsOf[Claims]())
	p := &OpenID{
		Issuer:    o.issuer(),
		ClientID:  o.text("client_id", ""),
		Scopes:    o.scopes(),
		Usernames: &gateway.Usernames{Strip: strings.ToLower(o.text("username_strip", ""))},
		Claims: Claims{
			Username:  claims.text("username", "preferred_username"),
			FirstName: claims.text("firstname", "given_name"),
			LastName:  claims.text("lastname", "family_name"),
			Email:     claims.text("email", "email"),
			City:      claims.text("city", ""),
			Country:   claims.text("country", ""),
			Lang:      claims.text("lang", "locale"),
			Timezone:  claims.text("timezone", ""),
		},
		UsernamesFile: o.path("usernames_file"),
		Session:       o.duration("session", DefaultLoginSession),
	}
	o.require("client_id", "the identity source oidc", "client_id: the name under which the provider knows this gateway")
	p.ClientSecret, p.ClientSecretFile, p.ClientSecretEnv = o.secret("client_secret_file", "client_secret_env")
	if p.Session < minSession || p.Session > maxSession {
		o.errorf(o.place("session"), "one hour is usual: for as long an account that the provider has closed may still jump",
			`"session" must be between %s and %s`, duration(minSession), duration(maxSession))
	}
	if p.UsernamesFile != "" {
		o.usernames(p.Usernames, p.UsernamesFile)
	}
	return p
}

// issuer reads the address of an OpenID provider, which must be spelled as the
// provider does it.
func (o object) issuer() string {
	const hint = `copy "issuer" from the provider's page /.well-known/openid-configuration`
	if !o.require("issuer", "the identity source oidc", "issuer: the address of the provider, such as https://login.example.org/realms/college") {
		return ""
	}
	text := o.text("issuer", "")
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		o.errorf(o.place("issuer"), hint, `"issuer" is not an https address`)
	case u.Scheme == "http" && !gateway.LoopbackHost(u.Hostname()):
		o.errorf(o.place("issuer"), "use the provider's https address", `"issuer" has no TLS: anybody on the way could log in as somebody else`)
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		o.errorf(o.place("issuer"), hint, `"issuer" has more than host and path`)
	default:
		return text
	}
	return ""
}

func (o object) scopes() []string {
	if !o.has("scopes") {
		return []string{"openid", "profile", "email"}
	}
	var scopes []string
	for _, item := range o.list("scopes") {
		if scope, ok := o.plain(item, "a scope"); ok && !slices.Contains(scopes, scope) {
			if strings.ContainsAny(scope, " \"\\") {
				o.errorf(item.at, "write each scope for itself: [openid, profile, email]", "%q is not a scope", scope)
			}
			scopes = append(scopes, scope)
		}
	}
	if !slices.Contains(scopes, "openid") && o.get("scopes").kind == list {
		o.errorf(o.place("scopes"), "without the scope openid a provider says nothing about who logged in", `"scopes" lacks openid`)
	}
	return scopes
}

// usernames reads a file with an account and its username on each line.
func (o object) usernames(names *gateway.Usernames, file string) {
	const hint = "write the account as the claim has it, a comma, and the username that peers know"
	text, err := readFile(file, maxConfig, false)
	if !o.readable("usernames_file", file, err) {
		return
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // as some programs begin a CSV file
	lines := csv.NewReader(bytes.NewReader(text))
	lines.Comment, lines.FieldsPerRecord = '#', 2
	src := &source{name: file, text: text}
	for {
		record, err := lines.Read()
		if err == io.EOF {
			return
		}
		if wrong, ok := errors.AsType[*csv.ParseError](err); ok {
			o.errorf(place{src: src, line: wrong.Line, column: 1}, hint, "cannot read the line: %s", wrong.Err)
			if !errors.Is(err, csv.ErrFieldCount) {
				return
			}
			continue
		}
		line, column := lines.FieldPos(0)
		if err := names.List(strings.TrimSpace(record[0]), strings.TrimSpace(record[1])); err != nil {
			o.errorf(place{src: src, line: line, column: column}, hint, "%s", err)
		}
	}
}
