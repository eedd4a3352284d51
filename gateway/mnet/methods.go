package mnet

import (
	"context"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"jumpgate/gateway"
)

// Method is what peers can call.
type Method struct {
	Name      string // as in "auth/mnet/auth.php/user_authorise"
	Service   string // which must be published to the caller; empty for everybody's
	MinParams int    // with fewer, Call is not called and the caller gets fault 17

	// Call answers with a value or an error: a *Fault is sent as it is,
	// ErrReplayed as a refused replay; of any other error the peer learns only
	// that something failed. So an error of our own store must stay one: as
	// fault 1 it would tell the peer that there is no such session.
	Call func(context.Context, *Call) (Value, error)

	// ChecksReplay says that Call itself refuses a Call.Nonce it has seen
	// before (in the same round trip as the rest of its work), so that the
	// server does not ask Replays.
	ChecksReplay bool
}

// PassOn is the error by which a Method leaves a call to the Moodle behind: if
// that does not take it, the answer is Else.
type PassOn struct{ Else Value }

func (p *PassOn) Error() string { return "the call is for the Moodle behind" }

// Call is one authenticated call: sealed for us, signed with the pinned key of
// Peer, and fresh.
type Call struct {
	Peer   *gateway.Peer
	Method string
	Params []Value
	Nonce  [32]byte // names the message; the same in every copy of it
	Addr   netip.Addr

	reason string
	detail error
}

// Note records why a call was answered with less than it asked for, though not
// with a fault: reason and detail become those of the Event. The peer learns
// neither.
func (c *Call) Note(reason string, detail error) { c.reason, c.detail = reason, detail }

// Noted returns what Note recorded last.
func (c *Call) Noted() (reason string, detail error) { return c.reason, c.detail }

// Param returns the text of the i-th parameter, or "" if there is none.
func (c *Call) Param(i int) string {
	if i >= len(c.Params) {
		return ""
	}
	return Text(c.Params[i])
}

// methodName is Moodle's check (section 4).
var methodName = regexp.MustCompile(`^[A-Za-z0-9]+/[A-Za-z0-9/_.-]+(\.php/)?[A-Za-z0-9_-]+$`)

const keyswap = "system/keyswap"

// systemMethods are answered to every authenticated peer, keyswap to anybody
// (section 5.1).
func (s *Server) systemMethods() []Method {
	return []Method{
		{Name: keyswap, MinParams: 2, Call: s.keyswap},
		{Name: "system/listServices", Call: s.listServices},
		{Name: "system/listMethods", Call: s.listMethods},
		{Name: methodSignature, Call: s.describe},
		{Name: methodHelp, Call: s.describe},
	}
}

// unimplemented are the system methods that exist in stock dispatchers, but
// are of no use to a peer.
var unimplemented = []string{"system/listFiles", "system/retrieveFile"}

func (s *Server) listServices(_ context.Context, c *Call) (Value, error) {
	names := slices.Sorted(slices.Values(slices.Concat(c.Peer.Publish, c.Peer.Subscribe)))
	list := Array{}
	for _, name := range slices.Compact(names) {
		list = append(list, Struct{
			{"name", name},
			{"apiversion", "1"},
			{"publish", flag(c.Peer.Publishes(name))},
			{"subscribe", flag(c.Peer.Subscribes(name))},
		})
	}
	return list, nil
}

// flag is a boolean column of Moodle's database on the wire.
func flag(b bool) Value {
	if b {
		return "1"
	}
	return "0"
}

func (s *Server) listMethods(_ context.Context, c *Call) (Value, error) {
	list := Array{}
	for _, name := range slices.Sorted(maps.Keys(s.methods)) {
		service := s.methods[name].Service
		if service == "" || !c.Peer.Publishes(service) {
			continue
		}
		if len(c.Params) > 0 && c.Param(0) != service {
			continue
		}
		list = append(list, name)
	}
	return list, nil
}

// find returns the method that the call names if the caller may call it, or
// the fault and the reason why not.
func (s *Server) find(c *Call) (*Method, *Fault, string) {
	if !methodName.MatchString(c.Method) {
		return nil, &Fault{Code: FaultMethodName, String: noMethodText}, ReasonMethodName
	}
	m := s.methods[c.Method]
	switch {
	case m == nil && slices.Contains(unimplemented, c.Method):
		return nil, &Fault{Code: FaultNotImplemented, String: noMethodText}, ReasonUnknownMethod
	case m == nil && strings.HasPrefix(c.Method, "system/"):
		return nil, &Fault{Code: FaultNoSystemMethod, String: noMethodText}, ReasonUnknownMethod
	case m == nil:
		return nil, &Fault{Code: FaultNoMethod, String: noMethodText}, ReasonUnknownMethod
	case m.Service != "" && !c.Peer.Publishes(m.Service) && c.Peer.Subscribes(m.Service):
		return nil, &Fault{Code: FaultNotPublished, String: noMethodText}, ReasonNotPublished
	case m.Service != "" && !c.Peer.Publishes(m.Service):
		return nil, &Fault{Code: FaultNoMethod, String: noMethodText}, ReasonNotPublished
	case len(c.Params) < m.MinParams:
		return nil, &Fault{Code: FaultParameters, String: "Internal server error"}, ReasonParameters
	}
	return m, nil, ""
}
