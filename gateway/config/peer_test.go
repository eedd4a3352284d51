package config

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPeersComeFromADirectoryToo(t *testing.T) {
	testDir(t)
	writeFile(t, "peers.d/b.yaml", "wwwroot: https://b.example.org\n")
	writeFile(t, "peers.d/a.yaml", "wwwroot: https://sp.example.org\ncertificate: certificates/sp.pem\n")
	writeFile(t, "peers.d/certificates/sp.pem", string(pairs().spCert))
	writeFile(t, "peers.d/.c.yaml.swp", "half a peer")
	writeFile(t, "peers.d/.d.yaml", "half a peer")
	writeFile(t, "peers.d/README", "not a peer")
	writeFile(t, "peers.d/e.yml", "wwwroot: https://e.example.org\n")
	file := minimal + "    peers_dir: peers.d\n    peers: [{wwwroot: 'https://first.example.org'}]\n"
	c := load(t, file)
	var names []string
	for _, p := range c.Sites[0].Peers.Peers() {
		names = append(names, p.Wwwroot.String())
	}
	want := []string{"https://first.example.org", "https://sp.example.org", "https://b.example.org"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	warnings := []Warning{{Position{File: dir + "/peers.d/e.yml"}, "not read: the name does not end in .yaml"}}
	if diff := cmp.Diff(warnings, c.Warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}

	t.Run("and their mistakes are shown in their files", func(t *testing.T) {
		writeFile(t, "peers.d/c.yaml", "# again\nwwwroot: https://FIRST.example.org\n")
		_, err := Load("jumpgate.yaml")
		if err == nil {
			t.Fatal("accepted")
		}
		want := "DIR/peers.d/c.yaml:2:10: https://first.example.org is already a peer or an alias (jumpgate.yaml:6:23)\n" +
			"    2 | wwwroot: https://FIRST.example.org\n      |          ^\n"
		if got, _ := describe(err); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	})
}

func TestACertificateMayStandInTheFile(t *testing.T) {
	testDir(t)
	block := strings.ReplaceAll(string(pairs().spCert), "\n", "\n          ")
	file := minimal + "    peers:\n      - wwwroot: https://sp.example.org\n        certificate: |\n          " + block + "\n"
	peer := load(t, file).Sites[0].Peers.Peers()[0]
	if peer.Certificate == nil || peer.Certificate.PEM() != string(pairs().spCert) {
		t.Errorf("got %+v", peer.Certificate)
	}
}

// manyPeers is a file with n peers that say a lot.
func manyPeers(n int) string {
	var b strings.Builder
	b.WriteString(minimal + "    peers:\n")
	for i := range n {
		fmt.Fprintf(&b, "      - wwwroot: https://forum-%05d.example.org\n"+
			"        aliases: [http://forum-%05d.example.org]\n"+
			"        hostid: %d\n        name: Forum number %d\n"+
			"        fingerprint: SHA256:%064x\n        allow_paths: [/mod/forum/, /course/]\n",
			i, i, i+1, i, i+1)
	}
	return b.String()
}

func TestTenThousandPeersFitAndComeBackFromPrint(t *testing.T) {
	testDir(t)
	c := load(t, manyPeers(10000))
	again := load(t, printed(t, c))
	if got := len(again.Sites[0].Peers.Peers()); got != 10000 {
		t.Errorf("got %d peers", got)
	}
	if !reflect.DeepEqual(c.Sites[0].Peers.Peers(), again.Sites[0].Peers.Peers()) { // cmp takes its time
		t.Error("some peers are different")
	}
}

func TestTenThousandPeersFitInADirectory(t *testing.T) {
	testDir(t)
	for i := range 10000 {
		writeFile(t, fmt.Sprintf("peers.d/%05d.yaml", i), fmt.Sprintf("wwwroot: https://forum-%05d.example.org\n", i))
	}
	c := load(t, minimal+"    peers_dir: peers.d\n")
	if got := len(c.Sites[0].Peers.Peers()); got != 10000 {
		t.Errorf("got %d peers", got)
	}
}

func BenchmarkLoad10000Peers(b *testing.B) {
	testDir(b)
	writeFile(b, "jumpgate.yaml", manyPeers(10000))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Load("jumpgate.yaml"); err != nil {
			b.Fatal(err)
		}
	}
}
