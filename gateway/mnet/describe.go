package mnet

import (
	"context"
	"strings"
)

const (
	methodSignature = "system/methodSignature"
	methodHelp      = "system/methodHelp"
)

// parameter is a parameter of a method, or, without a name, its result. Types
// are PHP's, as Moodle tells them.
type parameter struct{ name, kind, description string }

// description is what system/methodHelp and system/methodSignature tell.
type description struct {
	help       string
	parameters []parameter
	result     parameter
}

var (
	usernameParameter  = parameter{"username", "string", "The learner's username at this site."}
	userAgentParameter = parameter{"useragent", "string", "SHA-1 of the browser's User-Agent header, in hexadecimal."}
)

// descriptions are those of the service sso_idp (section 5.3), by the last
// part of the name.
var descriptions = map[string]description{
	"user_authorise": {"Redeems a token and returns whose it is.",
		[]parameter{{"token", "string", "The token of the landing address."}, userAgentParameter},
		parameter{kind: "array", description: "The learner's profile."}},
	"update_enrolments": {"Reports the courses of a learner at the calling site.",
		[]parameter{usernameParameter, {"courses", "array", "The courses by their id; empty for none."}},
		parameter{kind: "bool", description: "True if there were none."}},
	"keepalive_server": {"Keeps the sessions of learners alive who are busy at the calling site.",
		[]parameter{{"array", "array", "Usernames."}},
		parameter{kind: "array", description: "Code, message and last log id."}},
	"kill_children": {"Ends the sessions of a learner who logs out at the calling site.",
		[]parameter{usernameParameter, userAgentParameter},
		parameter{kind: "string", description: "What was ended, in plain text."}},
	"fetch_user_image": {"Returns the picture of a learner.",
		[]parameter{usernameParameter},
		parameter{kind: "array", description: "The picture in two sizes with their types; empty without one, false for nobody."}},
	"fetch_theme_info": {"Returns the name of this site's theme and the address of its logo.", nil,
		parameter{kind: "array", description: "Name and address."}},
	"refresh_log": {"Reports what learners did at the calling site.",
		[]parameter{{"array", "array", "Log records."}},
		parameter{kind: "array", description: "Code and message."}},
}

// describe answers both methods for a method that the caller may call, and
// false for every other, the built-in ones included, as a Moodle does.
func (s *Server) describe(_ context.Context, c *Call) (Value, error) {
	m := s.methods[c.Param(0)]
	if m == nil || m.Service == "" || !c.Peer.Publishes(m.Service) {
		return false, nil
	}
	d := descriptions[m.Name[strings.LastIndexByte(m.Name, '/')+1:]]
	if c.Method == methodHelp {
		return d.help, nil
	}
	parameters := Array{}
	for _, p := range d.parameters {
		parameters = append(parameters, Struct{{"name", p.name}, {"type", p.kind}, {"description", p.description}})
	}
	return Struct{
		{"parameters", parameters},
		{"return", Struct{{"type", d.result.kind}, {"description", d.result.description}}},
	}, nil
}
