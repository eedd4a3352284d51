package config

import (
	"slices"

	"jumpgate/gateway"
)

// Redirects says what becomes of answers by which the Moodle behind sends a
// browser somewhere else.
type Redirects struct {
	// Enforce stops them, instead of recording them alone.
	Enforce bool

	// Allow are the addresses, besides the site's own and its peers', that the
	// Moodle may send browsers to, none of them twice.
	Allow []gateway.Destination
}

// The modes of Redirects.
const (
	modeReport  = "report"
	modeEnforce = "enforce"
)

type redirectsDoc struct {
	Mode  string   `yaml:"mode"`
	Allow []string `yaml:"allow,omitempty"`
}

func (r Redirects) doc() redirectsDoc {
	d := redirectsDoc{Mode: r.Mode()}
	for _, entry := range r.Allow {
		d.Allow = append(d.Allow, entry.String())
	}
	return d
}

// Mode returns the mode in a word.
func (r Redirects) Mode() string {
	if r.Enforce {
		return modeEnforce
	}
	return modeReport
}

// Decider returns what decides by the configuration of a site.
func (s *Site) Decider() *gateway.Redirects {
	login := ""
	if s.Identity.OpenID != nil {
		login = s.Identity.OpenID.Issuer
	}
	return gateway.NewRedirects(s.Wwwroot, s.Aliases, s.Peers, login, s.Redirects.Allow)
}

// redirects reads where the Moodle behind may send browsers.
func (o object) redirects() Redirects {
	o = o.sub("redirects", fieldsOf[redirectsDoc]())
	r := Redirects{Enforce: o.choice("mode", modeReport, modeReport, modeEnforce) == modeEnforce}
	for _, item := range o.list("allow") {
		text, ok := o.plain(item, "an allowed address")
		if !ok {
			continue
		}
		switch entry, err := gateway.ParseDestination(text); {
		case err != nil:
			o.errorf(item.at, "write an origin such as https://login.example.org, if need be with a path or as https://*.example.org, or the scheme of an app such as moodlemobile:", "%s", err)
		case slices.Contains(r.Allow, entry):
			o.errorf(item.at, "keep one of them", "the address %s is allowed twice", entry)
		default:
			r.Allow = append(r.Allow, entry)
		}
	}
	return r
}
