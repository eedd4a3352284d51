package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
)

// withDir is a site with a peers_dir that has nothing in it yet.
func withDir(t testing.TB) *Site {
	t.Helper()
	if err := os.Mkdir("peers.d", 0o755); err != nil {
		t.Fatal(err)
	}
	return load(t, minimal+"    peers_dir: peers.d\n").Sites[0]
}

func spPeer(t testing.TB) *gateway.Peer {
	t.Helper()
	cert, err := gateway.ParseCertificate(pairs().spCert)
	if err != nil {
		t.Fatal(err)
	}
	return &gateway.Peer{
		Wwwroot: wwwroot(t, "https://sp.example.org"), Application: gateway.Moodle, Name: "The Forum",
		Publish: []string{"sso_idp"}, Subscribe: []string{"sso_sp"}, Certificate: cert, Fingerprint: cert.Fingerprint(),
	}
}

func TestAPeerThatIsAddedLoadsAsItIs(t *testing.T) {
	for what, change := range map[string]func(*gateway.Peer){
		"an ordinary one": func(*gateway.Peer) {},
		"no grants":       func(p *gateway.Peer) { p.Publish, p.Subscribe = nil, nil },
		"all fields": func(p *gateway.Peer) {
			p.HostID, p.AllowPaths, p.Application = 7, []string{"/mod/forum/"}, gateway.Mahara
			p.Aliases = []gateway.Wwwroot{wwwroot(t, "https://old.example.org")}
			names, err := gateway.NewUserList("ada")
			if err != nil {
				t.Fatal(err)
			}
			p.Export, p.Roam.Allow, p.Access.Deny = []string{"city"}, names, names
		},
		"nothing to be told":  func(p *gateway.Peer) { p.Export = []string{} },
		"a name like YAML":    func(p *gateway.Peer) { p.Name = `#1: "yes" - {a: *b} | 'no' \n` },
		"a name like a field": func(p *gateway.Peer) { p.Name = "x publish: [sso_idp]" },
		"a name like true":    func(p *gateway.Peer) { p.Name = "true" },
		"a name like a date":  func(p *gateway.Peer) { p.Name = "2026-01-02" },
		"another alphabet":    func(p *gateway.Peer) { p.Name = "Школа «№1» 🚀" },
	} {
		t.Run(what, func(t *testing.T) {
			testDir(t)
			site := withDir(t)
			p := spPeer(t)
			change(p)
			file, err := site.AddPeer(p, []string{"one", "two\nfingerprint: x"})
			if err != nil {
				t.Fatal(err)
			}
			if want := filepath.Join(site.PeersDir, "sp.example.org.yaml"); file != want {
				t.Errorf("written to %s, want %s", file, want)
			}
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o644 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			again := load(t, minimal+"    peers_dir: peers.d\n").Sites[0]
			if diff := cmp.Diff([]*gateway.Peer{p}, again.Peers.Peers(), compare); diff != "" {
				t.Errorf("(-added +loaded):\n%s", diff)
			}
			if got := again.PeerFile(again.Peers.Peers()[0]); got != file {
				t.Errorf("it is said to be in %q", got)
			}
			if entries, err := os.ReadDir("peers.d"); err != nil || len(entries) != 1 {
				t.Errorf("left behind: %v, %v", entries, err)
			}
			if _, err := site.AddPeer(p, nil); !errors.Is(err, fs.ErrExist) {
				t.Errorf("a second time: %v", err)
			}
		})
	}
}

func TestAPeerThatWouldNotLoadIsNotWritten(t *testing.T) {
	testDir(t)
	site := withDir(t)
	for what, change := range map[string]func(*gateway.Peer){
		"a name of two lines":    func(p *gateway.Peer) { p.Name = "a\nb" },
		"the site itself":        func(p *gateway.Peer) { p.Wwwroot = site.Wwwroot },
		"another's certificate":  func(p *gateway.Peer) { p.Wwwroot = wwwroot(t, "https://other.example.org") },
		"an unknown service":     func(p *gateway.Peer) { p.Publish = []string{"everything"} },
		"an unknown application": func(p *gateway.Peer) { p.Application = "drupal" },
	} {
		p := spPeer(t)
		change(p)
		if file, err := site.AddPeer(p, nil); err == nil {
			t.Errorf("%s: written to %s", what, file)
		}
	}
	if _, err := (&Site{}).AddPeer(spPeer(t), nil); err == nil {
		t.Error("written without a peers_dir")
	}
	if entries, err := os.ReadDir("peers.d"); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestEveryWwwrootHasAFileNameOfItsOwn(t *testing.T) {
	seen := map[string]string{}
	for _, text := range []string{
		"https://a.test", "http://a.test", "https://a.test:8443", "https://a.test/moodle", "https://a.test/Moodle", "https://a.test-8443",
		"https://[2001:db8::1]", "https://" + strings.Repeat("long-name.", 20) + "test", "https://_.test", "https://192.0.2.1",
	} {
		name := peerFileName(wwwroot(t, text))
		if other := seen[name]; other != "" {
			t.Errorf("%s has the file of %s", text, other)
		}
		seen[name] = text
		if len(name) > 130 || strings.ContainsAny(name, "/:[]\\") || strings.HasPrefix(name, ".") || filepath.Ext(name) != ".yaml" {
			t.Errorf("%s has the file %q", text, name)
		}
	}
}

func TestAnotherCertificateLeavesTheRestOfAFileAlone(t *testing.T) {
	pem := strings.ReplaceAll(string(pairs().otherCert), "\n", "\n  ")
	for what, text := range map[string]string{
		"a certificate":        "# ours\nwwwroot: https://sp.example.org # here\ncertificate: |\n  " + pem + "\n# a remark\nhostid: 5\n",
		"a fingerprint":        "wwwroot: https://sp.example.org\nfingerprint: SHA256:" + strings.Repeat("01", 32) + "\nhostid: 5\n",
		"a fingerprint folded": "wwwroot: https://sp.example.org\n\"fingerprint\" : >-\n  SHA256:" + strings.Repeat("01", 32) + "\nhostid: 5",
		"nothing":              "wwwroot: https://sp.example.org\nhostid: 5",
		"Windows' line ends":   "wwwroot: https://sp.example.org\r\nfingerprint: SHA256:" + strings.Repeat("01", 32) + "\r\nhostid: 5\r\n",
		"a list at the left":   "allow_paths:\n- /mod/\nwwwroot: https://sp.example.org\nhostid: 5\n",
	} {
		t.Run(what, func(t *testing.T) {
			testDir(t)
			site, p := withDir(t), spPeer(t)
			file := filepath.Join(site.PeersDir, "a.yaml")
			writeFile(t, file, text)
			site.peerPositions[p.Wwwroot] = Position{File: file}
			if err := site.RepinPeer(p, p.Certificate, []string{"another one"}); err != nil {
				t.Fatal(err)
			}
			got := load(t, minimal+"    peers_dir: peers.d\n").Sites[0].Peers.Peers()[0]
			if got.Certificate == nil || got.Certificate.Fingerprint() != p.Fingerprint || got.Fingerprint != p.Fingerprint || got.HostID != 5 {
				t.Errorf("got %+v", got)
			}
			after, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, comment := range []string{"# ours\n", " # here\n", "# a remark\n"} {
				if strings.Contains(text, comment) && !strings.Contains(string(after), comment) {
					t.Errorf("%q is lost:\n%s", comment, after)
				}
			}
			if entries, err := os.ReadDir("peers.d"); err != nil || len(entries) != 1 {
				t.Errorf("left behind: %v, %v", entries, err)
			}
		})
	}
	t.Run("or nothing happens", func(t *testing.T) {
		testDir(t)
		site, p := withDir(t), spPeer(t)
		file := filepath.Join(site.PeersDir, "a.yaml")
		for _, text := range []string{
			"{wwwroot: https://sp.example.org, fingerprint: SHA256:" + strings.Repeat("01", 32) + "}\n",
			"  wwwroot: https://sp.example.org\n  fingerprint: SHA256:" + strings.Repeat("01", 32) + "\n",
			"wwwroot: https://other.example.org\n",
		} {
			writeFile(t, file, text)
			site.peerPositions[p.Wwwroot] = Position{File: file}
			if err := site.RepinPeer(p, p.Certificate, nil); err == nil {
				t.Errorf("accepted %q", text)
			}
			if after, err := os.ReadFile(file); err != nil || string(after) != text {
				t.Errorf("%q became %q, %v", text, after, err)
			}
		}
		site.peerPositions[p.Wwwroot] = Position{File: "jumpgate.yaml"}
		if err := site.RepinPeer(p, p.Certificate, nil); err == nil {
			t.Error("the main file is changed")
		}
	})
}

func TestRegisterAllWarns(t *testing.T) {
	testDir(t)
	if err := os.Mkdir("peers.d", 0o755); err != nil {
		t.Fatal(err)
	}
	peers := "    peers: [{wwwroot: 'https://sp.example.org'}]\n"
	for file, want := range map[string]string{
		minimal + peers + "    mnet: {register_all: false}\n":                        "",
		minimal + peers + "    mnet: {register_all: true}\n":                         `"register_all" does nothing without a peers_dir to write the peers to`,
		minimal + peers + "    mnet: {register_all: true}\n    peers_dir: peers.d\n": "register_all: every site that asks becomes a peer, without any grant until you give it one",
	} {
		c := load(t, file)
		var got string
		for _, w := range c.Warnings {
			got += w.Message
		}
		if got != want || c.Sites[0].MNet.RegisterAll != strings.Contains(file, "true") {
			t.Errorf("%s: %t, warns %q", file, c.Sites[0].MNet.RegisterAll, got)
		}
	}
}

// FuzzRepinPeer looks for files in which another certificate changes more than
// that.
func FuzzRepinPeer(f *testing.F) {
	for _, text := range []string{
		"wwwroot: https://sp.example.org\nfingerprint: SHA256:" + strings.Repeat("01", 32) + "\nhostid: 5\n",
		"allow_paths:\n- /mod/\n\"fingerprint\" : >-\n  SHA256:" + strings.Repeat("01", 32) + "\nname: |\n  certificate: x\nwwwroot: https://sp.example.org",
		"wwwroot: https://sp.example.org\naliases: [\nhttps://old.example.org]\nname: 'a\n\n  b'\n",
		"? wwwroot\n: https://sp.example.org\n",
	} {
		f.Add([]byte(text))
	}
	dir := f.TempDir()
	site := &Site{Wwwroot: wwwroot(f, "https://idp.example.org"), PeersDir: dir}
	file := filepath.Join(dir, "a.yaml")
	p := spPeer(f)
	site.peerPositions = map[gateway.Wwwroot]Position{p.Wwwroot: {File: file}}
	f.Fuzz(func(t *testing.T, text []byte) {
		before, err := site.readPeer(file, text)
		if err != nil || before.Wwwroot != p.Wwwroot {
			t.Skip()
		}
		writeFile(t, file, string(text))
		if err := site.RepinPeer(p, p.Certificate, []string{"x"}); err != nil {
			return
		}
		written, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		after, err := site.readPeer(file, written)
		if err != nil {
			t.Fatal(err)
		}
		before.Certificate, before.Fingerprint = p.Certificate, p.Fingerprint
		if diff := cmp.Diff(before, after, compare); diff != "" {
			t.Errorf("(-before +after):\n%s\n%s", diff, written)
		}
	})
}

func TestAnAliasOfTheSiteIsNoPeerToAdd(t *testing.T) {
	testDir(t)
	site := withDir(t)
	p := spPeer(t)
	site.Aliases = []gateway.Wwwroot{p.Wwwroot}
	if file, err := site.AddPeer(p, nil); err == nil || !strings.Contains(err.Error(), "is the site itself") {
		t.Errorf("written to %s: %v", file, err)
	}
}
