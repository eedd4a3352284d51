package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/audit"
	"jumpgate/gateway/mnet"
)

// callFlags are those of all commands that call a peer.
type callFlags struct {
	siteFlags
	Timeout time.Duration `default:"60s" placeholder:"DURATION" help:"How long to wait for the answer, at most 60s (60s)."`
}

type mnetCallCommand struct {
	callFlags
	JSON   bool     `help:"Print one JSON object."`
	Peer   string   `arg:"" help:"Wwwroot of the peer."`
	Method string   `arg:"" help:"Such as auth/mnet/auth.php/user_authorise, or only its last part if that is well known."`
	Args   []string `arg:"" optional:"" name:"arg" help:"A string, or int:5, bool:true, array:[...], json:{...}, string:int:5."`
}

// Help explains more than fits a line.
func (mnetCallCommand) Help() string {
	return "The call is signed with the site's key, as the gateway's own calls are, and the peer does what it says. " +
		"Exit code 1 if the peer refuses or its answer is not valid. If an argument begins with -, write -- before the peer."
}

// Run calls and prints the answer.
func (c mnetCallCommand) Run(t *terminal) error {
	method, err := methodPath(c.Method)
	if err != nil {
		return err
	}
	var params []mnet.Value
	for _, arg := range c.Args {
		v, err := parseArg(arg)
		if err != nil {
			return &usageError{fmt.Sprintf("%.80q: %v", arg, err), "write int:5, bool:true, array:[1,2], json:{\"name\":\"value\"}, or string: before any text"}
		}
		params = append(params, v)
	}
	return c.with(t, c.Peer, func(ctx context.Context, d *desk, peer *gateway.Peer) error {
		v, err := d.call(ctx, peer, method, params...)
		// What it was called with may be secret.
		recorded := d.attempted("mnet call", audit.Event{Peer: peer.Wwwroot.String(), Target: method}, err)
		answer := document{Value: v}
		fault, refused := errors.AsType[*mnet.Fault](err)
		if refused {
			answer.Fault = reportFault(fault)
			if fault.Meaning() != "" {
				err = fmt.Errorf("%w: %s", err, fault.Meaning())
			}
		}
		if c.JSON && (err == nil || refused) {
			if failed := encodeJSON(t.stdout, answer); failed != nil {
				return failed
			}
		} else if err == nil {
			if _, failed := io.WriteString(t.stdout, valueText(v, "")+"\n"); failed != nil {
				return failed
			}
		}
		return cmp.Or(err, recorded)
	})
}

type mnetPollCommand struct {
	callFlags
	Peer string `arg:"" help:"Wwwroot of the peer."`
}

// Run calls keepalive_client, whose answer says nothing.
func (c mnetPollCommand) Run(t *terminal) error {
	return c.with(t, c.Peer, func(ctx context.Context, d *desk, peer *gateway.Peer) error {
		if !peer.Subscribes(gateway.ServiceSSOSP) {
			return withHint(fmt.Errorf("%s is not among the services of %s that are subscribed to", gateway.ServiceSSOSP, peer.Wwwroot),
				"add it to the peer's subscribe: in the configuration")
		}
		_, err := d.call(ctx, peer, authMethods+"keepalive_client")
		if err := d.attempted("mnet poll", audit.Event{Peer: peer.Wwwroot.String()}, err); err != nil {
			return err
		}
		_, err = fmt.Fprintf(t.stdout, "%s was asked for its active learners\n", peer.Wwwroot)
		return err
	})
}

// with runs f at the desk, and adds to an error of a call what to do about it.
func (c callFlags) with(t *terminal, name string, f func(context.Context, *desk, *gateway.Peer) error) error {
	if c.Timeout <= 0 || c.Timeout > time.Minute {
		return &usageError{fmt.Sprintf("--timeout %s is not between 0 and 60s", c.Timeout), "write --timeout 10s"}
	}
	d, err := c.open(t)
	if err != nil {
		return err
	}
	defer d.close()
	peer, err := d.peer(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.ctx, c.Timeout)
	defer cancel()
	err = f(ctx, d, peer)
	if err == nil || hintOf(err) != "" {
		return err
	}
	return withHint(err, d.callHint(peer, err))
}

// call makes a signed call of a peer's method.
func (d *desk) call(ctx context.Context, peer *gateway.Peer, method string, params ...mnet.Value) (mnet.Value, error) {
	return d.caller.Call(ctx, peer, method, params...)
}

// callHint says what to do about an error of call.
func (d *desk) callHint(peer *gateway.Peer, err error) string {
	ours := d.keys.Current().Certificate().Fingerprint()
	refresh := "jumpgate peer refresh " + peer.Wwwroot.String()
	if fault, ok := errors.AsType[*mnet.Fault](err); ok {
		return faultHint(fault, d.site.Wwwroot, ours, refresh)
	}
	if held, ok := errors.AsType[*mnet.HeldKeyError](err); ok {
		return fmt.Sprintf("compare the fingerprint %s with its administrator, then %s", held.Certificate.Fingerprint(), refresh)
	}
	_, status := errors.AsType[*mnet.StatusError](err)
	switch {
	case errors.Is(err, mnet.ErrBadSignature):
		return "the peer may have a new key: compare the fingerprint with its administrator, then " + refresh
	case errors.Is(err, mnet.ErrNotOpened):
		return fmt.Sprintf("the answer is sealed for another key than ours: the peer's administrator fetches our certificate again; it is %s", ours)
	case errors.Is(err, context.DeadlineExceeded):
		return "see whether the peer can be reached from this machine"
	case status, errors.Is(err, mnet.ErrNoMessage):
		return "a Moodle with networking off answers so, and so does whatever else stands at its address"
	}
	return fmt.Sprintf("jumpgate peer show %s says what each side knows of the other", peer.Wwwroot)
}

// faultHint says what to do about a fault. refresh is the command that fetches
// the peer's certificate again.
func faultHint(f *mnet.Fault, site gateway.Wwwroot, ours gateway.Fingerprint, refresh string) string {
	switch {
	case f.UnknownPeer():
		return fmt.Sprintf("the peer's administrator adds %s under Networking, Manage peers", site)
	}
	switch f.Code {
	case mnet.FaultNotOpened, mnet.FaultNewKey:
		return refresh + " fetches its current certificate; if that is the one we have, its PHP lacks OpenSSL's legacy provider, and so RC4"
	case mnet.FaultNoCertificate, mnet.FaultBadSignature, 7026, 6004, 6005, 6006:
		return fmt.Sprintf("the peer's administrator fetches our certificate again; it is %s", ours)
	case 707, mnet.FaultNoMethod, 6010, 6011:
		return "jumpgate mnet call PEER listServices shows what the peer publishes to us; its administrator publishes more under Networking, Manage peers, Services"
	case 704, 6012:
		return "the peer's administrator switches networking on"
	case mnet.FaultParameters:
		return "jumpgate mnet call PEER methodSignature METHOD shows what the method takes"
	case mnet.FaultMethodName:
		return "names look like auth/mnet/auth.php/user_authorise"
	}
	return "the peer's own log may say more"
}

const (
	authMethods   = "auth/mnet/auth.php/"
	enrolMethods  = "enrol/mnet/enrol.php/"
	systemMethods = "system/"
)

// methodPaths are the methods that go by their last part too.
var methodPaths = func() map[string]string {
	paths := map[string]string{}
	for prefix, names := range map[string][]string{
		systemMethods: {"keyswap", "listServices", "listMethods", "methodSignature", "methodHelp"},
		authMethods: {"user_authorise", "update_enrolments", "keepalive_server", "kill_children", "fetch_user_image", "fetch_theme_info",
			"refresh_log", "kill_child", "keepalive_client"},
		enrolMethods: {"available_courses", "course_enrolments", "enrol_user", "unenrol_user", "user_enrolments"},
	} {
		for _, name := range names {
			paths[name] = prefix + name
		}
	}
	return paths
}()

// methodPath returns the whole name of a method.
func methodPath(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	if path, ok := methodPaths[name]; ok {
		return path, nil
	}
	return "", &usageError{fmt.Sprintf("%q is no method that is known by its last part", name),
		"write all of it, or one of: " + strings.Join(slices.Sorted(maps.Keys(methodPaths)), ", ")}
}

// parseArg reads a parameter of a call: text, or a kind and a colon before it.
func parseArg(arg string) (mnet.Value, error) {
	kind, rest, _ := strings.Cut(arg, ":")
	switch kind {
	case "string":
		return rest, nil
	case "int":
		n, err := strconv.ParseInt(rest, 10, 32) // XML-RPC has no larger ones
		if err != nil {
			return nil, errors.New("not a whole number of 32 bits")
		}
		return int(n), nil
	case "bool":
		b, err := strconv.ParseBool(rest)
		if err != nil {
			return nil, errors.New("neither true nor false")
		}
		return b, nil
	case "array":
		v, err := mnet.ParseJSON([]byte(rest))
		if _, ok := v.(mnet.Array); err == nil && !ok {
			err = errors.New("not an array")
		}
		return v, err
	case "json":
		return mnet.ParseJSON([]byte(rest))
	}
	return arg, nil
}
