package main

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodletest"
)

// stranger NAME KIND [HOME [PUBLISH [SUBSCRIBE]]] starts a site that a script
// may make a peer of; the variable NAME has its address. The kinds:
//
//	forum   a stand-in Moodle with the peer HOME, and lists of the services
//	        that it grants HOME
//	tls     the same over TLS, with the certificate of its authority in NAME.pem
//	mahara  a site that has Mahara's paths
//	moved   a site that leads to HOME
//	bare    pages without MNet
//	other   a site whose MNet certificate names another one
func stranger(ts *testscript.TestScript, _ bool, args []string) {
	name, kind := args[0], args[1]
	args = append(args, make([]string, 3)...)
	server := httptest.NewUnstartedServer(nil)
	ts.Defer(server.Close)
	address := "http://" + server.Listener.Addr().String()
	if kind == "tls" {
		address = "https://" + server.Listener.Addr().String()
	}
	w, err := gateway.ParseWwwroot(address)
	ts.Check(err)
	named := w
	if kind == "other" {
		named, err = gateway.ParseWwwroot("https://www.forum.example")
		ts.Check(err)
	}
	key, err := mnet.NewKey(named, time.Now(), time.Hour)
	ts.Check(err)
	server.Config.Handler = strangerSite(ts, kind, w, key, args[2], args[3], args[4])
	if kind == "tls" {
		server.StartTLS()
		ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		ts.Check(os.WriteFile(ts.MkAbs(name+".pem"), ca, 0o644))
	} else {
		server.Start()
	}
	ts.Setenv(name, address)
	ts.Setenv(name+"_FINGERPRINT", key.Certificate().Fingerprint().String())
}

// nobody is a peer.
func nobody(context.Context, string) (*gateway.Peer, *gateway.Certificate, error) {
	return nil, nil, nil
}

func strangerSite(ts *testscript.TestScript, kind string, w gateway.Wwwroot, key *mnet.Key, home, publish, subscribe string) http.Handler {
	page := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "<title> A\n<b>page</b> &amp; more\u202e </title>")
	}
	rpc := &mnet.Server{Site: w, Keys: func() []*mnet.Key { return []*mnet.Key{key} }, Peer: nobody}
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", page)
	switch kind {
	case "moved":
		mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, home+"/index.php", http.StatusMovedPermanently)
		})
	case "mahara":
		mux.Handle(gateway.Mahara.RPCPath(), rpc)
	case "other":
		mux.Handle(gateway.Moodle.RPCPath(), rpc)
	case "forum", "tls":
		options := moodletest.ForumOptions{Wwwroot: w, Key: key, Title: "Forum University"}
		if home != "" {
			homeroot, err := gateway.ParseWwwroot(home)
			ts.Check(err)
			fields := func(s string) []string {
				return slices.DeleteFunc(strings.Split(s, ","), func(s string) bool { return s == "" })
			}
			options.Homes = []*gateway.Peer{{Wwwroot: homeroot, Publish: fields(publish), Subscribe: fields(subscribe)}}
		}
		forum, err := moodletest.NewForum(options)
		ts.Check(err)
		return forum
	}
	return mux
}
