"""The control plane of one gateway, put together: store, catalog, code, and a rule for each operation that there is."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from gateway.clock import Clock
from gateway.control.aliases import Aliases
from gateway.control.call import Rule
from gateway.control.catalog import Catalog
from gateway.control.changes import Changes, ChangesOf
from gateway.control.code import CodeLinks, CodeStore
from gateway.control.functions import Functions
from gateway.control.images import FindImage, Images
from gateway.control.layer_names import LayerCatalog, LayerNames
from gateway.control.layer_policies import LayerPolicies
from gateway.control.layer_use import LayerUse
from gateway.control.layers import Layers
from gateway.control.names import Names
from gateway.control.policies import Policies
from gateway.control.provisioned import ProvisionedConcurrency
from gateway.control.pulling import Pulling
from gateway.control.recursion import Recursion
from gateway.control.settling import Prepare, Settling
from gateway.control.tags import Tags
from gateway.control.updates import Updates
from gateway.control.urls import Urls
from gateway.control.usage import Usage
from gateway.control.versions import Versions
from gateway.records import Layer, LayerVersion
from gateway.store import Store
from gateway.store.functions import SqliteStore

_log = logging.getLogger(__name__)


class Control:
    """Everything under `data_dir` and all that may change it. Make it with `open`."""

    def __init__(
        self,
        *,
        store: Store,
        catalog: Catalog,
        code: CodeStore,
        links: CodeLinks,
        settling: Settling,
        provisioned: ProvisionedConcurrency,
        layer: Callable[[str], LayerVersion | None],
    ) -> None:
        self._store = store
        self._settling = settling
        self.catalog = catalog
        self.code = code
        self.provisioned = provisioned  #: to be told, by `watch`, whom to ask how far a version is
        self.layer = layer  #: the layer version of an ARN, None where there is none any more
        self.links = links  #: for LambdaApi, which serves what they lead to
        self.rules: Mapping[str, Rule] = {}  #: by name of the operation
        self._images: tuple[Pulling, Images] | None = None

    @classmethod
    async def open(
        cls,
        *,
        data_dir: Path,
        account_id: str,
        region: str,
        clock: Clock,
        url_for: Callable[[str], str],
        concurrency_limit: int = 1000,
        prepare: Prepare | None = None,
        find_image: FindImage | None = None,
    ) -> Self:
        """Open or make what is in `data_dir`, which must exist, and take up what a former process left in progress.

        `url_for` gives the address of a function URL's id. `prepare` is awaited for each new or changed ``$LATEST`` before it is
        called Active, for ten seconds at most; it may have a sandbox made. Raises StoreError, StoreTooNew for one.
        `find_image` says what an ImageUri means.
        """
        store = await SqliteStore.open(data_dir / "lambent.db")
        functions = await store.load()
        layers = await store.layers.load()
        catalog = Catalog(functions)
        code = await CodeStore.open(data_dir / "code", functions, layers)
        catalog.subscribe(code.changed)
        layer_catalog = LayerCatalog(layers, code.layer_changed)
        changes = Changes(store=store, catalog=catalog)
        layer_changes = ChangesOf[Layer](store=store.layers, catalog=layer_catalog)
        settling = Settling(changes=changes, prepare=prepare)
        await settling.recover(functions)
        # No two configurations ever share a generation: a function that is deleted and made anew is another one.
        newest = max((version.generation for function in functions for version in function.versions.values()), default=0)
        next_generation = itertools.count(newest + 1).__next__
        names = Names(account_id=account_id, region=region, catalog=catalog)
        usage = Usage(names=names, changes=changes, layers=layer_catalog, concurrency_limit=concurrency_limit)
        if (contradiction := usage.contradiction()) is not None:
            _log.warning("%s", contradiction)
        provisioned = ProvisionedConcurrency(names=names, changes=changes, usage=usage, clock=clock)
        layer_names = LayerNames(account_id=account_id, region=region, catalog=layer_catalog)
        control = cls(
            store=store,
            catalog=catalog,
            code=code,
            links=CodeLinks(store=code, clock=clock),
            settling=settling,
            provisioned=provisioned,
            layer=layer_names.find,
        )
        layer_use = LayerUse(names=layer_names, code=code)
        found_images = Images(find_image)
        pulling = Pulling(found_images=found_images, changes=changes, next_generation=next_generation)
        pulling.recover(functions)
        control._images = pulling, found_images
        use_cases = (
            Functions(
                names=names,
                changes=changes,
                code=code,
                links=control.links,
                layers=layer_use,
                found_images=found_images,
                settling=settling,
                pulling=pulling,
                usage=usage,
                clock=clock,
                next_generation=next_generation,
            ),
            Updates(
                names=names,
                changes=changes,
                code=code,
                layers=layer_use,
                found_images=found_images,
                settling=settling,
                pulling=pulling,
                usage=usage,
                clock=clock,
                next_generation=next_generation,
            ),
            Versions(names=names, changes=changes),
            Aliases(names=names, changes=changes, moved=provisioned.settle),
            Urls(names=names, changes=changes, clock=clock, url_for=url_for),
            Policies(names=names, changes=changes),
            Tags(names=names, changes=changes),
            Recursion(names=names, changes=changes),
            Layers(names=layer_names, changes=layer_changes, code=code, links=control.links, usage=usage, clock=clock),
            LayerPolicies(names=layer_names, changes=layer_changes),
            usage,
            provisioned,
        )
        control.rules = {name: rule for use_case in use_cases for name, rule in use_case.rules().items()}
        return control

    async def close(self) -> None:
        """Finish the changes that were begun, and close the store. May be called twice."""
        await self._settling.close()
        for each in self._images or ():
            await each.close()
        await self.provisioned.close()
        await self.code.close()
        await self._store.close()
